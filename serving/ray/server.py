"""The process behind `xuanyuan serve --ray`: brings up Ray and the application, watches them, and ends them.

Start: Ray, the plan for what it has, the placement, the application; say so. Serve until a signal or Ray's death.
Stop: the application drains as Ray Serve does it, then Ray ends, and nothing is left behind.
"""

import dataclasses
import http.client
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from serving.config import LOOPBACK, ServingConfig, load_config
from serving.engine_log import EXCEPTION_LINE, EngineLog
from serving.errors import EXIT_ENGINE_DIED, EXIT_STOPPED, ConfigError, ServingError, StartError
from serving.hardware import detect
from serving.launch import Prepared, banner, prepare, url
from serving.log import log, step
from serving.ray import session
from serving.ray.application import NAME, build, longest_stop
from serving.ray.nodes import cluster_hardware, first_replicas, plan_on_cluster, replica_cpus
from serving.ray.placement import Node, Placement, placement_of, refusal
from serving.server import STOPPED_EARLY, Expired, Stopped, end_children, interruptible, stop_signals

POLL_SECONDS = 0.5
PROGRESS_SECONDS = 10
# What Serve says of a replica that failed; the last exception in it is the one that we raised.
OF_SERVING = "serving.errors."


@dataclasses.dataclass(frozen=True)
class RayJob:
    """What the launcher hands over: vLLM's own flags, and the folder that is this run's."""

    passed: tuple[str, ...]
    folder: Path
    engine_log: str | None

    def to_json(self) -> str:
        """The text that `from_json` takes."""
        return json.dumps({**dataclasses.asdict(self), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> "RayJob":
        """The job that `to_json` wrote."""
        fields = json.loads(text)
        return cls(tuple(fields["passed"]), Path(fields["folder"]), fields["engine_log"])


def main() -> None:
    """Run the job on the command line and leave with its exit code."""
    job = RayJob.from_json(sys.argv[1])
    config = load_config({}, os.environ).config
    engine_log = EngineLog(job.engine_log)
    # Ray's and vLLM's libraries tell of every step; what goes wrong reaches the user as an error of ours.
    logging.disable(logging.INFO)
    try:
        code = run(job, config, engine_log)
    except (Stopped, SystemExit):
        # Ray's own handler, in force while Ray starts, turns a signal into the latter.
        log(STOPPED_EARLY)
        code = EXIT_STOPPED
    except Expired:
        log(f"xuanyuan: start_timeout={config.start_timeout:g}: not ready after that many seconds{where(engine_log)}")
        code = StartError.exit_code
    except ServingError as error:
        log(f"xuanyuan: {error}{where(engine_log)}")
        code = error.exit_code
    except Exception as error:
        logging.getLogger("vllm.xuanyuan").error("The server ended with an exception", exc_info=True)
        log(f"xuanyuan: the server failed: {type(error).__name__}: {error}{where(engine_log)}")
        code = StartError.exit_code
    finally:
        end_children()
        shutil.rmtree(job.folder, ignore_errors=True)
    with suppress(OSError):  # a full disk does not change the exit code
        sys.stderr.flush()
    os._exit(code)


def where(engine_log: EngineLog) -> str:
    """A hint where the logs are, or ''."""
    if not engine_log.path:
        return ""
    return f"\n  The replicas' logs: {engine_log.path.with_suffix('')}.*{engine_log.path.suffix}"


def run(job: RayJob, config: ServingConfig, engine_log: EngineLog) -> int:
    """Start, serve, stop. Returns the exit code. Raises ServingError, Stopped or Expired."""
    started = time.monotonic()
    with interruptible(config.start_timeout):
        with step("Joining Ray" if config.ray_address else "Starting Ray"):
            begin(config, job.folder)
        # Ray has put its own handlers in their place.
        with interruptible(max(1.0, config.start_timeout - (time.monotonic() - started))):
            prepared, placement = place(config, job.passed)
            with step("Importing the engine"):
                application = build(prepared, placement)
            with step(f"Starting {placement.text}"):
                session.start_serve(config.host if config.ray_address else "127.0.0.1", config.port)
                session.deploy(application, NAME)
                wait_until_running(placement.replicas)
                wait_until_answering(config.host, config.port)
    signals = Signals()
    address = url(config.host, config.port, tls=False)
    log(f"Ready after {time.monotonic() - started:.1f} s: {address}\n{ray_banner(prepared, placement, address)}")
    return watch_and_stop(config, signals)


def ray_banner(prepared: Prepared, placement: Placement, address: str) -> str:
    """The launcher's banner, with a line on the replicas."""
    copies = prepared.config.autoscale or placement.replicas
    lines = banner(prepared, address).splitlines()
    return "\n".join([lines[0], f"  ray      {copies} replicas, routing {prepared.config.routing}", *lines[1:]])


def begin(config: ServingConfig, folder: Path) -> None:
    """Have a Ray. Raises StartError, ConfigError."""
    if config.ray_address:
        session.join(config.ray_address)
    else:
        session.start(len(detect("cpu").cpus), folder)


def place(config: ServingConfig, passed: tuple[str, ...]) -> tuple[Prepared, Placement]:
    """Plan on what the cluster has, and see that it has room. Raises ConfigError, StartError."""
    found = session.nodes()
    check_host(config, found)
    machines = max(1, sum(node.total.get("GPU", 0) > 0 for node in found))
    planned = partial(on_machines, machines)
    prepared = prepare(config, passed, cluster_hardware(config, found), planned)
    placement = placement_of(prepared.plan, first_replicas(config), replica_cpus(config, prepared.plan, found))
    if application_status()[0] == "NOT_STARTED":
        # An application that is there already is updated replica by replica, in the room that it has.
        wait_for_room(placement, wait=config.wait_for_resources)
    return prepared, placement


def check_host(config: ServingConfig, found: Sequence[Node]) -> None:
    """Raises ConfigError where proxies, which use the nodes' addresses, could not reach replicas on loopback."""
    away = [node.address for node in found if node.address not in LOOPBACK]
    if away and config.host in LOOPBACK:
        raise ConfigError(
            f"host={config.host!r}: the proxies reach replicas at {away[0]}: set host to 0.0.0.0 (and keys_file, or "
            "allow_anonymous)"
        )


def on_machines(machines: int, config: ServingConfig, checkpoint: Any, hardware: Any) -> Any:
    """`plan_on_cluster` with the number of machines first."""
    return plan_on_cluster(config, checkpoint, hardware, machines)


def wait_for_room(placement: Placement, *, wait: bool) -> None:
    """Return when the cluster has room. Raises StartError at once if it has none and nobody wants to wait."""
    told = ""
    while problem := refusal(placement, session.nodes()):
        if not wait:
            raise StartError(problem)
        if problem != told:
            told = problem
            log(f"Waiting for resources: {problem}")
        time.sleep(POLL_SECONDS)


def wait_until_running(replicas: int) -> None:
    """Return when the application runs. Raises StartError with the root cause when it cannot."""
    told = time.monotonic()
    while True:
        status, message, running = application_status()
        if status == "RUNNING":
            return
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise StartError(root_cause(message))
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            log(f"  {running} of {replicas} replicas run")
        time.sleep(POLL_SECONDS)


def application_status() -> tuple[str, str, int]:
    """The application's status, what Serve says of it, and how many replicas run."""
    from ray import serve

    overview = serve.status().applications.get(NAME)
    if overview is None:
        return "NOT_STARTED", "", 0
    deployments = overview.deployments.values()
    messages = [overview.message, *(deployment.message for deployment in deployments)]
    running = next((d.replica_states.get("RUNNING", 0) for n, d in overview.deployments.items() if NAME in n), 0)
    return str(overview.status.value), "\n".join(filter(None, messages)), running


def root_cause(message: str) -> str:
    """The reason in what Serve says of a failed deployment: our own error in it, else its first exception."""
    ours = re.findall(rf"{re.escape(OF_SERVING)}\w+: (.+)", message)
    if ours:
        return str(ours[0])
    found = EXCEPTION_LINE.findall(message)
    return found[0] if found else (message.strip().splitlines() or ["Ray Serve gave no reason"])[0]


def wait_until_answering(host: str, port: int) -> None:
    """Return when the proxy passes requests on: it learns of new replicas a moment after they run."""
    while not healthy("127.0.0.1" if host in ("0.0.0.0", "::") else host, port):
        time.sleep(POLL_SECONDS / 5)


def healthy(host: str, port: int) -> bool:
    """Whether /health, which is the engine's, answers 200 through the proxy."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Signals:
    """The first signal stops, the second ends at once."""

    def __init__(self) -> None:
        self.count = 0
        for number in stop_signals():
            signal.signal(number, self.received)

    def received(self, number: int, frame: FrameType | None) -> None:
        """A signal for this process."""
        self.count += 1


def watch_and_stop(config: ServingConfig, signals: Signals) -> int:
    """Wait for a signal or for Ray's death, then bring all down. Returns the exit code."""
    own = not config.ray_address
    while not signals.count:
        if own and not session.of_this_machine():
            log("Ray died; nothing is served any more.")
            return EXIT_ENGINE_DIED
        time.sleep(POLL_SECONDS)
    log(f"Draining: requests in flight may take {config.drain_timeout:g} s. A second signal ends at once.")
    ended = in_background(take_down)
    deadline = time.monotonic() + longest_stop(config)
    while ended.is_alive() and signals.count < 2 and time.monotonic() < deadline:
        ended.join(POLL_SECONDS / 5)
    log("Stopped." if not ended.is_alive() else "Stopped at once; requests in flight were cut off.")
    return EXIT_STOPPED


def in_background(work: Callable[[], None]) -> threading.Thread:
    """Work that a signal may leave behind."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def take_down() -> None:
    """Delete the application, which drains its replicas. A Ray of our own ends with this process."""
    from ray import serve

    serve.delete(NAME)


if __name__ == "__main__":
    main()
