"""The same service from several server processes: one engine, and in front of it processes that share one port.

One process checks, tokenizes and streams on one core; where that core is the limit, `api_server_count` adds more. They
are forked from this process once the engine's libraries are imported, take connections from the launcher's one socket,
and each is what `server.py` is alone: vLLM's app within the guard. This process serves nothing: it starts them, says
when all are ready, passes signals on, and ends when they have ended. Their metrics meet in PROMETHEUS_MULTIPROC_DIR.
"""

import asyncio
import math
import multiprocessing
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from types import FrameType
from typing import TYPE_CHECKING, Any

from prometheus_client.multiprocess import mark_process_dead

from serving.engine_log import EngineLog
from serving.errors import EXIT_ENGINE_DIED, EXIT_STOPPED, ConfigError, StartError
from serving.job import Job
from serving.log import log, step
from serving.server import (
    ENGINE_STOP_SECONDS,
    configure,
    end_children,
    interruptible,
    log_ready,
    main,
    not_started,
    prepare_children,
    serve,
    stop_signals,
)

if TYPE_CHECKING:
    from vllm.v1.engine.utils import CoreEngineLaunch

READY = "ready"
POLL_SECONDS = 0.5
# From the end of its last answer to the end of a server: connections are cut, the engine's client is closed.
LEAVE_SECONDS = 8


@dataclass(frozen=True)
class Place:
    """What a server is told of its place: which one it is, how it and the engine meet, where people read."""

    index: int
    input_address: str
    output_address: str
    # File descriptors that become readable when a process of the engine ends.
    engine_sentinels: tuple[int, ...]
    console: int


@dataclass(frozen=True)
class ApiServer:
    """A server process. Through `pipe` it says that it is ready, and at its end what became of it."""

    process: ForkProcess
    pipe: Connection

    def hear(self) -> str:
        """The next thing it says; '' if it ended without a word."""
        try:
            return str(self.pipe.recv())
        except EOFError:
            return ""

    def end(self) -> tuple[int, str]:
        """The exit code that its end means for the whole service, and what to say about it."""
        self.process.join()
        code = self.process.exitcode
        if code in (EXIT_STOPPED, EXIT_ENGINE_DIED):
            return code, self.hear()
        if code == -signal.SIGTERM:
            # A second signal met it on its way out.
            return EXIT_STOPPED, self.hear() or "Stopped."
        return EXIT_ENGINE_DIED, f"{self.process.name} died (exit code {code})."


def run(job: Job, engine_log: EngineLog) -> int:
    """Start, serve, stop. Returns the exit code. Raises StartError, ConfigError or Stopped."""
    started = time.monotonic()
    try:
        with interruptible(job.start_timeout), engine_log.progress():
            with step("Importing the engine"):
                args, vllm_config = configure(job.args, engine_log)
            with step(f"Starting the engine and {job.api_server_count} servers"):
                launch, servers = start(job, args, vllm_config, engine_log)
        relay = Relay(servers, job.drain_delay + job.drain_timeout)
        log_ready(job, started)
        watch(servers, relay)
        ends = [server.end() for server in servers]
        if launch.engine_manager is not None:
            launch.engine_manager.shutdown(timeout=ENGINE_STOP_SECONDS)
    finally:
        end_children()
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    worst = max(code for code, _ in ends)
    log("\n".join(dict.fromkeys(words for code, words in ends if code == worst)))
    return worst


def start(job: Job, args: Any, vllm_config: Any, engine_log: EngineLog) -> tuple["CoreEngineLaunch", list[ApiServer]]:
    """Start the engine's processes and the servers, as vLLM's `run_multi_api_server` does; return when all are ready.

    vLLM spawns its servers, which each import everything again. Raises ConfigError, or StartError with the root cause.
    """
    from vllm.v1.engine.utils import get_engine_zmq_addresses, launch_core_engines
    from vllm.v1.executor import Executor

    if vllm_config.parallel_config.data_parallel_size > 1:
        raise ConfigError(
            f"api_server_count={job.api_server_count}: expected 1 where --data-parallel-size is more than 1"
        )
    console = os.dup(sys.stderr.fileno())
    prepare_children(engine_log)
    addresses = get_engine_zmq_addresses(vllm_config, job.api_server_count)
    executor = Executor.get_class(vllm_config)
    try:
        with launch_core_engines(vllm_config, executor, not args.disable_log_stats, addresses) as launch:
            sentinels = tuple(launch.engine_manager.sentinels()) if launch.engine_manager else ()
            meetings = zip(addresses.inputs, addresses.outputs, strict=True)
            places = [Place(index, *meeting, sentinels, console) for index, meeting in enumerate(meetings)]
            servers = [start_server(job, args, vllm_config, place) for place in places]
            launch.watched_frontend_processes = [server.process for server in servers]
    except Exception as error:
        raise not_started(error, engine_log) from None
    if any([server.hear() != READY for server in servers]):
        raise StartError(f"a server process ended before it was ready: {engine_log.root_cause()}")
    os.close(console)
    os.close(job.socket_fd)
    # What this process has of the metrics is no server's.
    mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
    return launch, servers


def start_server(job: Job, args: Any, vllm_config: Any, place: Place) -> ApiServer:
    """Fork one server."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=serve_one, args=(job, args, vllm_config, place, theirs), name=f"APIServer_{place.index}"
    )
    process.start()
    # With no copy of it left here, the server's end ends the pipe.
    theirs.close()
    return ApiServer(process, ours)


def serve_one(job: Job, args: Any, vllm_config: Any, place: Place, pipe: Connection) -> None:
    """The life of one server process, in it."""
    import uvloop
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.system_utils import set_process_title
    from vllm.v1.engine.async_llm import AsyncLLM

    set_process_title("APIServer", str(place.index))
    engine = AsyncLLM.from_vllm_config(
        vllm_config=vllm_config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        client_addresses={"input_address": place.input_address, "output_address": place.output_address},
        client_count=job.api_server_count,
        client_index=place.index,
    )
    # The guard's access lines are for people.
    os.dup2(place.console, sys.stderr.fileno())

    def on_ready() -> None:
        loop = asyncio.get_running_loop()
        for sentinel in place.engine_sentinels:
            loop.add_reader(sentinel, engine_died, loop, sentinel)
        pipe.send(READY)

    def engine_died(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
        loop.remove_reader(sentinel)
        # As vLLM's own watch over an engine does in the process that started it: open streams are told.
        engine.engine_core.shutdown()

    code, words = uvloop.run(serve(job, args, engine, on_ready))
    pipe.send(words)
    with suppress(OSError):  # a full disk does not change the exit code
        sys.stderr.flush()
    os._exit(code)


class Relay:
    """Passes signals on to the servers, which drain at the first and end at the second.

    `deadline`: when they must have ended, on the monotonic clock; infinite until they are to.
    """

    def __init__(self, servers: list[ApiServer], drain_timeout: float) -> None:
        self.servers = servers
        self.drain_timeout = drain_timeout
        self.deadline = math.inf
        for number in stop_signals():
            signal.signal(number, self.received)

    @property
    def stopping(self) -> bool:
        """Whether the servers are to end."""
        return self.deadline < math.inf

    def received(self, number: int, frame: FrameType | None) -> None:
        """A signal for this process."""
        self.stop()

    def stop(self) -> None:
        """Tell the servers."""
        self.expect_end(0 if self.stopping else self.drain_timeout)
        for server in self.servers:
            server.process.terminate()

    def expect_end(self, seconds: float) -> None:
        """From now on the servers have so long, and what each takes to leave."""
        self.deadline = time.monotonic() + seconds + LEAVE_SECONDS


def watch(servers: list[ApiServer], relay: Relay) -> None:
    """Return when all have ended. One that ends by itself stops the others, unless it was the engine that died."""
    alive = {server.process.sentinel: server for server in servers}
    while alive and time.monotonic() < relay.deadline:
        for sentinel in wait(list(alive), POLL_SECONDS):
            ended = alive.pop(int(sentinel))  # type: ignore[arg-type]
            ended.process.join()
            if relay.stopping:
                continue
            if ended.process.exitcode == EXIT_ENGINE_DIED:
                relay.expect_end(0)
            else:
                relay.stop()
    for server in alive.values():
        server.process.kill()


if __name__ == "__main__":
    main(run)
