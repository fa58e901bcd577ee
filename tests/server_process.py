"""A server started as a user starts it, for tests that look at it from outside."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

XUANYUAN = str(Path(sys.executable).parent / "xuanyuan")
KV_CACHE = 512 * 1024**2  # bytes: 22,000 tokens of the demo
READY = re.compile(r"^Ready after ([\d.]+) s: (\S+)$", re.MULTILINE)


class ServerProcess:
    """`xuanyuan serve …` on a free port. `log` is the engine's log file, `screen()` what the user sees."""

    def __init__(self, args: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = folder / "engine.log"
        self.screen_file = folder / "screen.txt"
        self.args = tuple(args)
        # Compiling takes a minute for every new shape of a checkpoint: only who asks for it gets it.
        eager = () if "--no-enforce-eager" in args else ("--enforce-eager",)
        # Several servers live at once: of what the launcher would take of a free machine, each gets a part.
        small = () if "--kv-cache-memory-bytes" in args else ("--kv-cache-memory-bytes", str(KV_CACHE))
        command = [XUANYUAN, "serve", "--port", "0", "--engine-log", str(self.log), *eager, *small, *args]
        with self.screen_file.open("a") as screen:
            self.process = subprocess.Popen(
                command,
                stdout=screen,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env,
                start_new_session=True,
            )
        self.url = ""
        self.family: list[psutil.Process] = []

    def wait_ready(self, timeout: float = 300) -> "ServerProcess":
        """Return when the server says it is ready; fail with what it printed when it ends before."""
        deadline = time.monotonic() + timeout
        while not (found := READY.search(self.screen())):
            assert self.process.poll() is None, f"exit code {self.process.returncode}:\n{self.screen()}"
            assert time.monotonic() < deadline, f"not ready after {timeout} s:\n{self.screen()}"
            time.sleep(0.1)
        self.url = found[2]
        self.family = self.children()
        return self

    def screen(self) -> str:
        """Everything the launcher printed so far."""
        return self.screen_file.read_text()

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Return when `text` was printed."""
        deadline = time.monotonic() + timeout
        while text not in self.screen():
            assert time.monotonic() < deadline, f"{text!r} was not printed:\n{self.screen()}"
            time.sleep(0.05)

    def children(self) -> list[psutil.Process]:
        """All processes below the launcher."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process:
        """The child whose title has `name` in it, such as "EngineCore"."""
        (found,) = [child for child in self.children() if name in " ".join(child.cmdline()) + child.name()]
        return found

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def left_behind(self, timeout: float = 10) -> list[str]:
        """Those of the children seen when it was ready that still run `timeout` seconds after its end."""
        _, alive = psutil.wait_procs(self.family, timeout=timeout)
        return [f"{child.pid} {child.name()}" for child in alive]


def dry_run(*args: str) -> dict[str, object]:
    """What `xuanyuan serve … --dry-run --json` prints."""
    done = subprocess.run([XUANYUAN, "serve", "--dry-run", "--json", *args], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def xuanyuan(*args: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [XUANYUAN, *args], capture_output=True, text=True, env=env, timeout=timeout, stdin=subprocess.DEVNULL
    )
