"""From a configuration to a running server: check everything that can be refused, then become the server.

Everything here is light: no engine is imported before the configuration, the port, the checkpoint and the hardware are
known to be good. The serving itself (`server.py`) needs libraries preloaded and variables set before Python starts, so
this process replaces itself with it: one process, the same id, and a signal sent to it reaches the server.
"""

import dataclasses
import errno
import os
import shlex
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import NoReturn

from serving.catalog import CatalogEntry, load_catalog
from serving.checkpoint import Checkpoint, read_checkpoint
from serving.config import FIELDS, ServingConfig
from serving.demo import default_cache, demo_checkpoint
from serving.engine import EngineSpec, engine_spec
from serving.errors import ConfigError, StartError
from serving.guard.settings import environ_name
from serving.hardware import Hardware, detect
from serving.hub import locate
from serving.job import Job
from serving.keys import read_keys
from serving.log import log
from serving.native import find_preloads, lacks_to_compile
from serving.plan import Plan, plan_for

DEFAULT_ON_GPU = "XuanYuan-6B-Chat"
# Without our plugins in it this variable would take the renderer from the engine.
NOT_FOR_THE_ENGINE = ("VLLM_PLUGINS",)
DEMO_NAME = "SmolLM2-135M-Instruct"
Planner = Callable[[ServingConfig, Checkpoint, Hardware], Plan]


@dataclass(frozen=True)
class Prepared:
    """A checkpoint that is sound and fits, and how the engine is to be started with it."""

    config: ServingConfig
    checkpoint: Checkpoint
    plan: Plan
    spec: EngineSpec


def prepare(
    config: ServingConfig, passed: tuple[str, ...] = (), hardware: Hardware | None = None, planned: Planner = plan_for
) -> Prepared:
    """Check settings, checkpoint and hardware. `passed` goes to vLLM unchanged. Raises ConfigError (also its kinds).

    `hardware` is this box where it is None; `planned` makes the plan.
    """
    check_guard(config)
    hardware = hardware or detect(config.device)
    path, entry, name = find_model(config, hardware)
    checkpoint = read_checkpoint(
        path,
        entry=entry,
        name=name,
        template=config.template,
        device=hardware.device,
        allow_pickle=config.allow_pickle,
    )
    plan = planned(config, checkpoint, hardware)
    on_cpu = hardware.device == "cpu"
    spec = engine_spec(
        config,
        checkpoint,
        plan,
        preloads=find_preloads() if on_cpu else (),
        cpus=hardware.cpus,
        compiles=on_cpu and can_compile(config, plan),
        passed=passed,
        environ=os.environ,
    )
    return Prepared(config, checkpoint, plan, spec)


def can_compile(config: ServingConfig, plan: Plan) -> bool:
    """Whether this box can compile the model for its CPU. Says so where it cannot, and would have."""
    lacking = lacks_to_compile()
    if lacking and not (config.enforce_eager or plan.enforce_eager):
        log(
            f"The model runs uncompiled, and slower: {lacking} is missing (apt-get install g++ python3-dev). "
            "--enforce-eager says no more of it."
        )
    return not lacking


def check_guard(config: ServingConfig) -> None:
    """Raises ConfigError for what the guard would refuse only once the engine is up."""
    if config.keys_file:
        read_keys(Path(config.keys_file))
    from serving.guard.quotas import storage

    storage(config)


def find_model(config: ServingConfig, hardware: Hardware) -> tuple[Path, CatalogEntry | None, str | None]:
    """The folder to serve, its catalog row, and a name for it where the folder's own would not do."""
    if not config.model and hardware.device == "cpu":
        return demo_checkpoint(config.demo_form), None, DEMO_NAME
    catalog = load_catalog(Path(config.catalog) if config.catalog else None)
    path, entry = locate(
        config.model or DEFAULT_ON_GPU,
        catalog,
        hub=config.hub,
        revision=config.revision,
        allow_pickle=config.allow_pickle,
    )
    return path, entry, entry.name if entry else None


def serve(config: ServingConfig, passed: tuple[str, ...], environ: Mapping[str, str]) -> NoReturn:
    """Take the port, prepare, and become the server. Raises ServingError for whatever can be refused before."""
    listening = take_port(config.host, config.port)
    # Port 0 asks for any free one: from here on it has a number.
    config = dataclasses.replace(config, port=listening.getsockname()[1])
    prepared = prepare(config, passed)
    address = url(listening.getsockname()[0], config.port, tls=any("--ssl-certfile" in word for word in passed))
    job = Job(
        args=prepared.spec.args,
        socket_fd=listening.fileno(),
        url=address,
        banner=banner(prepared, address),
        engine_log=engine_log(config),
        start_timeout=config.start_timeout,
        drain_timeout=config.drain_timeout,
        drain_delay=config.drain_delay,
        api_server_count=config.api_server_count,
    )
    metrics = {"PROMETHEUS_MULTIPROC_DIR": mkdtemp(prefix="xuanyuan-metrics-")} if job.api_server_count > 1 else {}
    become_server(job, {**prepared.spec.env, **metrics}, environ, listening)


def take_port(host: str, port: int) -> socket.socket:
    """A socket that listens on host and port, so that nobody else takes them while the engine starts.

    A client that comes too early waits. Raises ConfigError for a bad host, StartError for a taken port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"host={host!r}: expected an address of this machine: {error}") from None
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        # Binding alone does not notice a server on the same port that asked for reuse; listening does.
        listening.listen(0)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} on {host} is taken: stop what uses it, or choose another with --port"
            ) from None
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listening


def engine_log_path(config: ServingConfig) -> Path:
    """Where the engine's log goes if it goes to a file."""
    return Path(config.engine_log) if config.engine_log else default_cache() / "logs" / f"serve-{config.port}.log"


def engine_log(config: ServingConfig) -> str | None:
    """The engine's log file, made empty; None: the console. Raises ConfigError if the user's own cannot be written."""
    if config.engine_log == "-":
        return None
    path = engine_log_path(config)
    if path.exists() and not path.is_file():
        raise ConfigError(f"engine_log={str(path)!r}: expected a file, or '-' for the console")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    except OSError as error:
        if config.engine_log:
            raise ConfigError(f"engine_log={config.engine_log!r}: cannot be written: {error.strerror}") from None
        log(f"The engine's log goes to the console: {path} cannot be written ({error.strerror}).")
        return None
    return str(path)


def url(host: str, port: int, *, tls: bool) -> str:
    """Where a client on this machine reaches the server that listens on `host`."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


def banner(prepared: Prepared, address: str) -> str:
    """What is printed when the server is ready: the model, what it can hold, and a line that works when pasted."""
    config, checkpoint, plan = prepared.config, prepared.checkpoint, prepared.plan
    name = config.served_model_name or checkpoint.name
    form = checkpoint.quantization.method if checkpoint.quantization else plan.dtype
    key = " -H 'Authorization: Bearer YOUR_KEY'" if config.keys_file else ""
    return "\n".join(
        [
            f"  model    {name} ({form}, {plan.device})",
            f"  context  {plan.max_model_len:,} tokens; up to {plan.max_num_seqs} requests at a time",
            f"  try      {curl(address, name, checkpoint.template != 'none', key)}",
            "  stop     Ctrl-C",
        ]
    )


def curl(address: str, name: str, chat: bool, key: str) -> str:
    """A command line that asks the server something."""
    ask = '"messages": [{"role": "user", "content": "What is a stock?"}]' if chat else '"prompt": "A stock is"'
    body = shlex.quote(f'{{"model": "{name}", {ask}, "max_tokens": 64}}')
    route = "chat/completions" if chat else "completions"
    return f"curl -s {address}/v1/{route} -H 'Content-Type: application/json'{key} -d {body}"


def become_server(job: Job, env: Mapping[str, str], environ: Mapping[str, str], listening: socket.socket) -> NoReturn:
    """Replace this process by the one that serves."""
    os.set_inheritable(listening.fileno(), True)
    # Settings reach the server only as they were merged here: a default that a flag restored is not undone again.
    dropped = {*map(environ_name, FIELDS), *NOT_FOR_THE_ENGINE}
    merged = {name: value for name, value in environ.items() if name not in dropped} | dict(env)
    # vLLM and the tools it starts (ninja, g++) are looked for beside this Python.
    merged["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), environ.get("PATH", os.defpath)))
    sys.stdout.flush()
    # -P: nothing in the folder where the user stands is imported by accident.
    module = "serving.many_servers" if job.api_server_count > 1 else "serving.server"
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, job.to_json()], merged)
