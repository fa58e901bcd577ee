"""Ray itself: start one on this machine, or join one that runs; what it has; and its end."""

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.errors import ConfigError, StartError
from serving.ray.environment import of_ray
from serving.ray.nodes import nodes_of
from serving.ray.placement import Node

CONNECT_SECONDS = 5
# Nothing but small messages passes through it: prompts and answers go over HTTP.
OBJECT_STORE_BYTES = 200_000_000


def start(cpus: int, folder: Path) -> None:
    """Start a Ray for this process alone, which ends with it. Raises StartError."""
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.CRITICAL,
            _temp_dir=str(folder / "ray"),
        )
    except Exception as error:
        raise StartError(f"Ray did not start: {type(error).__name__}: {error}") from None


def join(address: str) -> None:
    """Become a driver of the cluster at HOST:PORT. Raises ConfigError for a bad address, StartError for no answer."""
    import ray

    host, port = parse_address(address)
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise StartError(f"ray_address={address!r}: nothing answers there: {error}") from None
    try:
        ray.init(address=address, logging_level=logging.CRITICAL)
    except Exception as error:
        raise StartError(f"ray_address={address!r}: cannot join: {type(error).__name__}: {error}") from None


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"ray_address={address!r}: expected HOST:PORT, such as 10.0.0.1:6379")
    return host.strip("[]"), int(port)


def nodes() -> list[Node]:
    """The machines of the cluster."""
    import ray
    from ray._private.state import available_resources_per_node

    # The public `ray.available_resources()` adds all machines up, which cannot tell what fits on one.
    return nodes_of(ray.nodes(), available_resources_per_node())


def start_serve(host: str, port: int) -> None:
    """Start Ray Serve's controller and proxies, with our settings in all of them. Raises StartError."""
    from ray import serve

    try:
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": host, "port": port, "request_timeout_s": None},
            controller_options={"runtime_env": {"env_vars": of_ray()}},
        )
    except Exception as error:
        raise StartError(f"Ray Serve did not start: {type(error).__name__}: {error}") from None


def deploy(application: Any, name: str) -> None:
    """Hand an application to Ray Serve, without waiting for it."""
    from ray.serve.api import _run  # the public `run` waits for ever

    _run(application, name=name, route_prefix="/", _blocking=False)


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of loopback that nobody uses at the moment."""
    held: Sequence[socket.socket] = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = tuple(one.getsockname()[1] for one in held)
    for one in held:
        one.close()
    return ports


def of_this_machine() -> bool:
    """Whether Ray's own processes of this machine still run: without them nothing is served."""
    import psutil

    children = psutil.Process(os.getpid()).children()
    return {"gcs_server", "raylet"} <= {child.name() for child in children if child.status() != psutil.STATUS_ZOMBIE}
