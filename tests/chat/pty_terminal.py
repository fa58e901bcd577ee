"""A program on a pseudo-terminal: what is typed, and what is seen."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType

CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"
# The child makes the terminal its own, so that Ctrl-C reaches it as a signal.
LOGIN = "import os, sys; os.login_tty(0); os.execvp(sys.argv[1], sys.argv[1:])"


class Terminal:
    """`seen` is all that the program has printed, with the echo of what was typed, as the terminal gets it."""

    def __init__(self, command: Sequence[str], environ: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, *command], stdin=slave, stdout=slave, stderr=slave, env=environ
        )
        os.close(slave)
        self.seen = ""
        self._raw = b""
        self._read = 0

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, timeout: float = 20) -> str:
        """Wait for `text` after what was last waited for, and give what was seen up to its end."""
        deadline = time.monotonic() + timeout
        while (found := self.seen.find(text, self._read)) < 0:
            if not self._more(deadline):
                raise AssertionError(f"{text!r} did not come; seen: {self.seen[self._read :]!r}")
        start, self._read = self._read, found + len(text)
        return self.seen[start : self._read]

    def end(self, timeout: float = 20) -> int:
        """Wait until the program ends, and give its exit code."""
        deadline = time.monotonic() + timeout
        while self._more(deadline):
            pass
        return self.process.wait(timeout)

    def _more(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        try:
            data = os.read(self.master, 65536) if ready else b""
        except OSError:  # Linux says EIO when the last process has let go of the terminal
            data = b""
        self._raw += data
        self.seen = self._raw.decode("utf-8", "replace")
        return bool(data)
