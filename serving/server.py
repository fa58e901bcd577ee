"""The process that serves: vLLM's own engine and app, started, watched, drained and stopped.

Start: import the engine, start its processes, build the app, open the port, say so. Serve until a signal or the
engine's death. Stop: refuse new requests, let those in flight finish, stop the engine, leave nothing behind.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from serving.engine_child import in_every_child
from serving.engine_log import EngineLog
from serving.errors import (
    EXIT_ENGINE_DIED,
    EXIT_FAILED_TO_START,
    EXIT_STOPPED,
    ConfigError,
    ServingError,
    StartError,
)
from serving.guard.drain import PROCESS as DRAIN
from serving.job import Job
from serving.log import log, step

if TYPE_CHECKING:
    import psutil
    import uvicorn
    from vllm.v1.engine.async_llm import AsyncLLM

ENGINE_POLL_SECONDS = 0.5
# What the engine may take to release its shared memory before it is killed.
ENGINE_STOP_SECONDS = 5
# What vLLM's own launcher asks for.
MOST_OPEN_FILES = 65535
# What setitimer(2) surely takes: a year.
LONGEST_TIMER_SECONDS = 3.2e7
STOPPED_EARLY = "Stopped before the server was ready."


class Stopped(BaseException):
    """A signal asked to stop while the engine was still starting."""


class Expired(BaseException):
    """The engine was not ready in time. No Exception, for those are caught in many places on the way."""


def main(run: Callable[[Job, EngineLog], int]) -> None:
    """Run the job on the command line and leave with its exit code."""
    job = Job.from_json(sys.argv[1])
    allow_many_connections()
    engine_log = EngineLog(job.engine_log)
    try:
        code = run(job, engine_log)
    except Stopped:
        log(STOPPED_EARLY)
        code = EXIT_STOPPED
    except Expired:
        log(f"xuanyuan: start_timeout={job.start_timeout:g}: the engine was not ready after that many seconds")
        code = EXIT_FAILED_TO_START
    except ServingError as error:
        log(f"xuanyuan: {error}{engine_log.where}")
        code = error.exit_code
    except Exception as error:
        # From vLLM's own code, or a fault of ours: the user gets a line, the log the stack.
        logging.getLogger("vllm.xuanyuan").info("The server ended with an exception", exc_info=True)
        log(f"xuanyuan: the server failed: {type(error).__name__}: {first_line(error)}{engine_log.where}")
        code = EXIT_FAILED_TO_START
    finally:
        end_children()
    with suppress(OSError):  # a full disk does not change the exit code
        sys.stderr.flush()
    # Threads of the engine's libraries may still run; there is nothing left to wait for.
    os._exit(code)


def run(job: Job, engine_log: EngineLog) -> int:
    """Start, serve, stop. Returns the exit code. Raises StartError, ConfigError or Stopped."""
    started = time.monotonic()
    with interruptible(job.start_timeout), engine_log.progress():
        with step("Importing the engine"):
            args, vllm_config = configure(job.args, engine_log)
        with step("Starting the engine"):
            engine = start_engine(vllm_config, engine_log)
    import uvloop

    on_ready = partial(log_ready, job, started)
    code, words = uvloop.run(serve(job, args, engine, on_ready))
    log(words)
    return code


def log_ready(job: Job, started: float) -> None:
    """Say that the port is open."""
    log(f"Ready after {time.monotonic() - started:.1f} s: {job.url}\n{job.banner}")


@contextmanager
def interruptible(timeout: float) -> Iterator[None]:
    """Let SIGTERM, Ctrl-C and a time limit end a start that is under way."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    def expire(number: int, frame: FrameType | None) -> None:
        raise Expired

    for number in stop_signals():
        signal.signal(number, stop)
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, min(timeout, LONGEST_TIMER_SECONDS))
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def allow_many_connections() -> None:
    """Each takes a file descriptor: raise the soft limit as far as the hard one lets us. Shells often set 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if soft != resource.RLIM_INFINITY and soft < most else soft, hard))


def stop_signals() -> list[signal.Signals]:
    """The signals that stop the server. A closed terminal does too, unless `nohup` said that it should not."""
    asked = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    return [number for number in asked if signal.getsignal(number) != signal.SIG_IGN]


def configure(words: tuple[str, ...], engine_log: EngineLog) -> tuple[Any, Any]:
    """vLLM's parsed arguments and its configuration. Raises ConfigError for what it refuses."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.serve.utils.api_utils import log_non_default_args
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    engine_log.attach()
    try:
        args = make_arg_parser(FlexibleArgumentParser(prog="vLLM")).parse_args(list(words))
        validate_parsed_serve_args(args)
        log_non_default_args(args)
        engine_args = AsyncEngineArgs.from_cli_args(args)
        return args, engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    except SystemExit:
        raise ConfigError("vLLM refused an argument given after --: its message is above") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the engine refused its configuration: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """An error's text, short enough for one line. pydantic has a title on the first line, the reason on the third."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) if lines else type(error).__name__


def start_engine(vllm_config: Any, engine_log: EngineLog) -> "AsyncLLM":
    """Start the engine's processes. Raises StartError with the root cause."""
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    prepare_children(engine_log)
    try:
        return AsyncLLM.from_vllm_config(vllm_config=vllm_config, usage_context=UsageContext.OPENAI_API_SERVER)
    except Exception as error:
        raise not_started(error, engine_log) from None


def not_started(error: Exception, engine_log: EngineLog) -> StartError:
    """Why the engine did not start. That one of its processes failed is all that vLLM says; why stands in the log."""
    cause = engine_log.root_cause() if "core initialization" in str(error) else ""
    return StartError(f"the engine did not start: {cause or first_line(error)}")


def prepare_children(engine_log: EngineLog) -> None:
    """How the engine's processes are started, and what each does first.

    On a CPU vLLM asks for `spawn`, so that engine core and worker each import everything again, one after the other.
    Forked from this process they need no import at all, which more than halves the time to the first token
    (`python -m benchmarks startup` prints it; VLLM_WORKER_MULTIPROC_METHOD does not help, vLLM overwrites it).
    """
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    in_every_child(engine_log.redirect_output)
    with engine_log.quiet():
        # It removes shared memory that killed processes leave, and says so on the error stream it is born with.
        resource_tracker.ensure_running()


async def serve(job: Job, args: Any, engine: "AsyncLLM", on_ready: Callable[[], None]) -> tuple[int, str]:
    """Open the port, serve until told to stop or the engine dies, drain, and stop the engine.

    Returns the exit code, and what to say about the end.
    """
    signals = Signals(job.drain_timeout, job.drain_delay)
    server = await build_server(args, engine)
    serving = asyncio.create_task(server.serve(sockets=[socket.socket(fileno=job.socket_fd)]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if serving.done():
        await serving
        raise StartError("the HTTP server ended before it was ready")
    signals.attach(server)
    if not signals.received_early:
        on_ready()
    died = await watch(engine, server, serving)
    await serving
    engine.shutdown(timeout=ENGINE_STOP_SECONDS)
    if signals.received_early:
        return EXIT_STOPPED, STOPPED_EARLY
    if died:
        return EXIT_ENGINE_DIED, "The engine died; its last words are in the log."
    return EXIT_STOPPED, f"Stopped{signals.summary}."


async def build_server(args: Any, engine: "AsyncLLM") -> "uvicorn.Server":
    """vLLM's app in a uvicorn server that leaves signals to us."""
    import uvicorn
    from vllm import envs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.launcher import NoSignalServer

    tasks = await engine.get_supported_tasks()
    app = build_app(args, tasks, engine.model_config)
    await init_app_state(engine, app.state, args, tasks)
    config = uvicorn.Config(
        app,
        # httptools takes headers without end into memory (61 MB of 60 sent, measured); h11 stops at this many bytes.
        http="h11",
        h11_max_incomplete_event_size=65536,
        # The engine log has it all.
        log_config=None,
        log_level=args.uvicorn_log_level,
        access_log=False,
        timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        ssl_keyfile=args.ssl_keyfile,
        ssl_certfile=args.ssl_certfile,
        ssl_ca_certs=args.ssl_ca_certs,
        ssl_cert_reqs=args.ssl_cert_reqs,
        server_header=False,
        # Who is still connected after the drain is cut off.
        timeout_graceful_shutdown=1,
    )
    server: uvicorn.Server = NoSignalServer(config)
    # vLLM's handlers reach for it when the engine is dead.
    app.state.server = server
    return server


async def watch(engine: "AsyncLLM", server: "uvicorn.Server", serving: "asyncio.Task[None]") -> bool:
    """Wait until serving ends; True if that was because the engine died."""
    while not serving.done():
        if engine.errored:
            # Open streams are told by the guard and by vLLM; give them the moment that takes.
            server.should_exit = True
            await asyncio.wait([serving], timeout=5)
            return True
        await asyncio.wait([serving], timeout=ENGINE_POLL_SECONDS)
    # It may have died since the last look, and the drain have ended with it.
    return bool(engine.errored)


class Signals:
    """The first signal drains, the second ends at once. One before the server is ready ends it when it is."""

    def __init__(self, drain_timeout: float, drain_delay: float = 0) -> None:
        self.drain_timeout = drain_timeout
        self.drain_delay = drain_delay
        self.summary = ""
        self.server: uvicorn.Server | None = None
        self.received_early = False
        self.task: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self.received)

    def attach(self, server: "uvicorn.Server") -> None:
        """From now on there is a server to drain."""
        self.server = server
        server.should_exit = self.received_early

    def received(self) -> None:
        """Begin to drain, or cut it short."""
        if self.server is None:
            self.received_early = True
        elif self.task is None:
            self.task = asyncio.create_task(self.drain(self.server))
        else:
            self.summary = " at once; requests in flight were cut off"
            self.server.should_exit = self.server.force_exit = True

    async def drain(self, server: "uvicorn.Server") -> None:
        """Send clients away, refuse what is new, wait for what is in flight, then let the server end."""
        DRAIN.announce()
        await asyncio.sleep(self.drain_delay)
        DRAIN.begin()
        if DRAIN.in_flight:
            log(f"Draining: {DRAIN.in_flight} in flight, up to {self.drain_timeout:g} s. A second signal ends at once.")
        try:
            async with asyncio.timeout(self.drain_timeout):
                await DRAIN.idle()
        except TimeoutError:
            self.summary = f"; {DRAIN.in_flight} still in flight after {self.drain_timeout:g} s were cut off"
        server.should_exit = True


def end_children() -> None:
    """Kill whatever child is left, whoever started it: nothing may outlive the launcher."""
    import psutil

    children = [child for child in psutil.Process().children(recursive=True) if not is_resource_tracker(child)]
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)
    for mark in Path("/dev/shm").glob(f"__KMP_REGISTERED_LIB_*_{os.getuid()}"):
        # Intel's OpenMP removes its mark of a process only when that ends by itself.
        pid = mark.name.split("_")[-2]
        if pid.isdecimal() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            mark.unlink(missing_ok=True)


def is_resource_tracker(child: "psutil.Process") -> bool:
    """It ends by itself after us, when it has removed the shared memory of those that were killed."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        return "multiprocessing.resource_tracker" in " ".join(child.cmdline())
    return False


if __name__ == "__main__":
    main(run)
