"""`xuanyuan serve --ray`: refuse what can be refused before Ray starts, then become the process that runs it."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import NoReturn

from serving.config import FIELDS, ServingConfig, to_environ
from serving.errors import ConfigError, StartError
from serving.guard.settings import environ_name
from serving.hardware import detect
from serving.launch import NOT_FOR_THE_ENGINE, Prepared, check_guard, engine_log, prepare, take_port
from serving.log import log
from serving.ray.environment import FIXED_PORTS, local_environment, serve_environment
from serving.ray.nodes import cores_of, first_replicas, most_replicas, share_of_cpu
from serving.ray.placement import Node, Placement, refusal
from serving.ray.server import RayJob
from serving.ray.session import free_ports, parse_address


def serve_on_ray(config: ServingConfig, passed: tuple[str, ...], environ: Mapping[str, str]) -> NoReturn:
    """Check, then become the server. Raises ServingError for whatever can be refused before."""
    check(config, passed)
    if not config.ray_address:
        prepare_here(config, passed)
        listening = take_port(config.host, config.port)
        config = dataclasses.replace(config, port=listening.getsockname()[1])
        # The proxy, another process, is to listen there. On a cluster it may be there already.
        listening.close()
    log_file = engine_log(config)
    remove_old_logs(log_file)
    # The paths of the sockets in it may have 97 letters, so it must not lie deep.
    folder = Path(mkdtemp(prefix="xuanyuan-", dir="/tmp"))
    job = RayJob(passed, folder, log_file)
    env = environment(config, folder, environ)
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "serving.ray.server", job.to_json()], env)


def check(config: ServingConfig, passed: tuple[str, ...]) -> None:
    """Raises ConfigError for settings that Ray cannot serve with."""
    check_guard(config)
    if config.api_server_count > 1:
        raise ConfigError(f"api_server_count={config.api_server_count}: on Ray use replicas; expected 1")
    if config.port == 0 and config.ray_address:
        raise ConfigError("port=0: on a cluster every machine listens on the same port; expected a number")
    tls = next((word for word in passed if word.startswith("--ssl-")), None)
    if tls:
        raise ConfigError(f"{tls} after --: on Ray, TLS ends at the proxy in front of the service")
    if config.ray_address:
        parse_address(config.ray_address)


def prepare_here(config: ServingConfig, passed: tuple[str, ...]) -> Prepared:
    """One replica as this machine would have it. Raises ServingError where it has no room for all of them."""
    hardware = detect(config.device)
    if hardware.device == "cpu":
        cores = len(hardware.cpus)
        machine = Node("this machine", {"CPU": cores}, {"CPU": cores})
        each = cores_of(cores, most_replicas(config), config.replica_cpus)
        if problem := refusal(Placement(first_replicas(config), ({"CPU": each},), "STRICT_PACK"), [machine]):
            raise StartError(problem)
        hardware = share_of_cpu(hardware, most_replicas(config), config.replica_cpus)
    return prepare(config, passed, hardware)


def rehearse(config: ServingConfig, passed: tuple[str, ...]) -> Prepared:
    """What a replica's engine would be started with, for a dry run. Raises ServingError."""
    check(config, passed)
    if config.ray_address:
        log("ray_address: a dry run asks no cluster; this is what a replica on this machine would get")
        return prepare(config, passed)
    return prepare_here(config, passed)


def environment(config: ServingConfig, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: the settings as they were merged, and Ray's. What the user set of Ray's own stays."""
    dropped = {*map(environ_name, FIELDS), *NOT_FOR_THE_ENGINE}
    local = {} if config.ray_address else local_environment(folder, free_ports(len(FIXED_PORTS)))
    merged = {**serve_environment(config, folder), **local}
    merged |= {name: value for name, value in environ.items() if name not in dropped}
    merged |= to_environ(config)
    # Ray looks for its programs beside this Python.
    merged["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), environ.get("PATH", os.defpath)))
    return merged


def remove_old_logs(log_file: str | None) -> None:
    """The replicas' logs of an earlier run on this port."""
    if log_file:
        path = Path(log_file)
        for old in path.parent.glob(f"{path.stem}.*{path.suffix}"):
            old.unlink(missing_ok=True)
