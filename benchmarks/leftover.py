"""Servers that outlived the run that started them: SIGKILL gives it no time to end them, and stopped ones stay.

Each server is written down in the run's folder as it is started; the next run there ends what it finds.
"""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.console import log

SUFFIX = ".pid"
# Clocks of processes and files agree no better than this, in seconds.
ROUNDING = 0.05


def write_down(folder: Path, name: str, pid: int) -> Path:
    """Note that this process leads a session of its own which is the server `name`; the file to delete at its end."""
    path = folder / f"{name}{SUFFIX}"
    path.write_text(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}), encoding="utf-8")
    return path


def sweep(folder: Path) -> None:
    """End every server that is written down in the folder or below it, and forget it."""
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        with suppress(ValueError, KeyError):  # the file was cut off while it was written
            found = json.loads(path.read_text(encoding="utf-8"))
            members = session(found["pid"], found["started"])
            if members:
                log(f"ending {path.stem}, left over from a run that was killed …")
            for process in members:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(members, 10)
        path.unlink()


def session(leader: int, started: float) -> list[psutil.Process]:
    """The live processes of the session that `leader` began at `started`; none where its number went to another one."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            same = os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE
            if same and process.pid == leader and abs(process.create_time() - started) > ROUNDING:
                return []
            if same:
                members.append(process)
    return members
