"""The life of a server under test: started, waited for, stopped while another one is measured, ended."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.client import Server, record
from benchmarks.console import BenchmarkError, log
from benchmarks.leftover import sweep, write_down
from benchmarks.metrics import outcome
from benchmarks.options import first_model
from benchmarks.systems import ROOT, SERVED_NAME, System
from benchmarks.workload import synthetic

START_TIMEOUT_S = 1200
END_TIMEOUT_S = 40
POLL_S = 0.2
# To keep a further server in memory, this much more than the largest so far must be free.
HEADROOM = 1.3


@dataclass(frozen=True)
class Running:
    """A system that answers: where, what started it, and seconds from its start to its first token (0: not ours)."""

    system: System
    server: Server
    model: str
    process: psutil.Process | None = None
    startup: float = 0.0

    def tree(self) -> list[psutil.Process]:
        """Its processes, parents first."""
        return [self.process, *self.process.children(recursive=True)] if self.process else []

    def pause(self) -> None:
        """Stop every process where it stands, so that it takes no processor time. Parents first."""
        for process in self.tree():
            process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        for process in reversed(self.tree()):
            process.send_signal(signal.SIGCONT)

    def cpu_of_others(self) -> float:
        """Seconds of processor time that everything but this server and this process has taken so far."""
        machine = psutil.cpu_times()
        mine = [psutil.Process().cpu_times(), *(process.cpu_times() for process in self.tree())]
        taken = machine.user + machine.nice + machine.system + machine.irq + machine.softirq
        return float(taken - sum(times.user + times.system for times in mine))

    def memory(self) -> int:
        """Bytes of memory that the processes hold, what they share counted once (PSS); 0 for one that is not ours."""
        return sum(process.memory_full_info().pss for process in self.tree())


def first_token(server: Server, model: str) -> float | None:
    """perf_counter seconds of the first token of a short answer; None while there is no such answer."""
    (question,) = synthetic(1, 16, 1, 0)
    (exchange,) = asyncio.run(record(server, [question.call(model, ignore_eos=True)])).exchanges
    found = outcome(exchange, exchange.sent)
    return exchange.sent / 1e9 + found.ttft if found.ok else None


def wait_for_first_token(process: subprocess.Popen[bytes], system: System, log_file: Path) -> float:
    """Seconds of perf_counter at the first token. Raises BenchmarkError when the server ends, or none comes in time."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchmarkError(f"{system.name} ended with exit code {process.returncode}:\n{tail(log_file)}")
        at = first_token(system.server, SERVED_NAME)
        if at is not None:
            return at
        time.sleep(POLL_S)
    raise BenchmarkError(f"{system.name} gave no token within {START_TIMEOUT_S} s:\n{tail(log_file)}")


def tail(path: Path) -> str:
    """The end of a log, for an error."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-8:])


@contextmanager
def running(system: System, folder: Path) -> Iterator[Running]:
    """The system, started if it has to be, and ended afterwards whatever happens. Its output goes into `folder`."""
    if not system.command:
        yield Running(system, system.server, first_model(system.server))
        return
    log_file = folder / f"{system.name}.log"
    log(f"starting {system.name} …")
    started = time.perf_counter()
    with log_file.open("wb") as file:
        process = subprocess.Popen(
            system.command, stdout=file, stderr=file, env={**os.environ, **system.env}, cwd=ROOT, start_new_session=True
        )
    written_down = write_down(folder, system.name, process.pid)
    try:
        startup = wait_for_first_token(process, system, log_file) - started
        log(f"  {system.name}: first token after {startup:.1f} s")
        yield Running(system, system.server, SERVED_NAME, psutil.Process(process.pid), startup)
    finally:
        end(process)
        written_down.unlink(missing_ok=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started, also where it is stopped or does not want to."""
    if process.poll() is not None:
        return
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in reversed(tree):
        member.send_signal(signal.SIGCONT)
    process.terminate()
    _, alive = psutil.wait_procs(tree, END_TIMEOUT_S)
    for member in alive:
        member.kill()
    process.wait()


class Servers:
    """The systems under test: all in memory with the idle ones stopped, or one at a time where they do not fit.

    Use it as a context manager: everything that it started ends with it.
    """

    def __init__(self, systems: Sequence[System], folder: Path, *, resident: bool) -> None:
        self.systems = {system.name: system for system in systems}
        self.folder, self.resident = folder, resident
        self.stack = ExitStack()
        self.live: dict[str, Running] = {}
        self.startups: dict[str, list[float]] = {}
        self.memory: dict[str, int] = {}

    def __enter__(self) -> "Servers":
        sweep(self.folder)
        if self.resident:
            for name, system in self.systems.items():
                if system.command and not self.room():
                    log("memory does not hold all servers: they are started anew for each turn")
                    self.resident = False
                    self.stack.close()
                    self.live.clear()
                    break
                self.start(name, self.stack).pause()
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.close()

    def room(self) -> bool:
        """Whether as much as the largest server takes is free."""
        return bool(psutil.virtual_memory().available > HEADROOM * max(self.memory.values(), default=0))

    def start(self, name: str, stack: ExitStack) -> Running:
        found = stack.enter_context(running(self.systems[name], self.folder))
        self.live[name] = found
        self.startups.setdefault(name, []).append(found.startup)
        self.memory[name] = found.memory()
        return found

    @contextmanager
    def turn(self, name: str) -> Iterator[Running]:
        """The system, and no other one, runs in this block."""
        if not self.resident:
            with ExitStack() as stack:
                yield self.start(name, stack)
            return
        found = self.live[name]
        found.resume()
        try:
            yield found
        finally:
            self.memory[name] = found.memory()
            found.pause()
