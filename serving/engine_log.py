"""Where the words of engine and guard go: all to a file, errors also to the console, one line each, no stack traces."""

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from serving.log import log

# The last line of a Python traceback.
EXCEPTION_LINE = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception)\b.*", re.MULTILINE)
# These say that something failed, not what.
NOT_A_CAUSE = ("Engine core initialization failed", "EngineCore failed", "cancelled")
# What vLLM calls an error and is a client's: a name that is not served, messages that make no conversation. The access
# line tells of it.
OF_CLIENTS = ("Error with model", "An error occurred in `transformers` while applying chat template")
# Time, level, process and logger, which stand before a message in the file.
ORIGIN = re.compile(r"^[\d-]+ [\d:,]+ [A-Z]+ \S+ [\w.]+: ")
PROGRESS_SECONDS = 10.0
# vLLM's last line before it compiles, and what that means to a user who waits.
COMPILING = (
    "Warming up model for the compilation",
    "compiling the model for this processor, once (about a minute; the next start loads it)",
)


class OneLine(logging.Formatter):
    """The first line of a message, without the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line for the console."""
        lines = record.getMessage().strip().splitlines()
        return f"engine: {lines[0] if lines else ''}"


class WholeLog(logging.StreamHandler[TextIO]):
    """Writes to the file. Where it cannot (full disk), it says so once on the console and drops the line.

    Only once until a line can be written again. In the engine's own processes, whose console is the file, not at all.
    """

    failing = failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.failed = False
        super().emit(record)
        self.failing = self.failed

    def handleError(self, record: logging.LogRecord) -> None:
        """Called while the error is being handled."""
        self.failed = True
        if not self.failing:
            log(f"The engine's log cannot be written ({sys.exc_info()[1]}): the server goes on without it.")


class EngineLog:
    """The log of one run. `path` None: everything goes to the console as vLLM writes it."""

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        self.file = self.path.open("a", encoding="utf-8", buffering=1) if self.path else None
        if self.file is not None:
            # What vLLM says while it is imported, before `attach`, is of no use to anybody.
            os.environ["VLLM_LOGGING_LEVEL"] = "WARNING"

    @property
    def where(self) -> str:
        """A hint where to read more, or ''."""
        return f"\n  The engine's whole log: {self.path}" if self.path else ""

    def attach(self) -> None:
        """Send what vLLM and uvicorn log to the file, and vLLM's errors also to the console."""
        # A full disk must not flood the console with what could not be written.
        logging.raiseExceptions = False
        # Its warning about a part of a message that it skips shows the part: no prompt text in logs.
        logging.getLogger("vllm.entrypoints.chat_utils").setLevel(logging.ERROR)
        # An 8-bit checkpoint would write a line at every multiplication: 200 a token.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        if self.file is None:
            return
        whole: logging.Handler = WholeLog(self.file)
        whole.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s"))
        errors = logging.StreamHandler(os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1))
        errors.setFormatter(OneLine())
        errors.setLevel(logging.ERROR)
        errors.addFilter(lambda record: not record.getMessage().startswith(OF_CLIENTS))
        for name, handlers in (
            ("vllm", [whole, errors]),
            ("serving", [whole, errors]),
            ("uvicorn", [whole]),
            ("asyncio", [whole]),
        ):
            logger = logging.getLogger(name)
            logger.handlers = list(handlers)
            logger.propagate = False
        logging.getLogger("vllm").setLevel(logging.INFO)

    def redirect_output(self) -> None:
        """Send what this process writes by itself (a child's stack traces, a library's warnings) to the file too."""
        if self.file is not None:
            os.dup2(self.file.fileno(), 1)
            os.dup2(self.file.fileno(), 2)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """What is started in here has the file as its error stream."""
        if self.file is None:
            yield
            return
        console = os.dup(2)
        os.dup2(self.file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(console, 2)
            os.close(console)

    def root_cause(self) -> str:
        """The first exception in the log that says what went wrong, or ''."""
        lines = EXCEPTION_LINE.findall(self.text())
        return next((line for line in lines if not any(phrase in line for phrase in NOT_A_CAUSE)), "")

    def text(self) -> str:
        """What the file holds; '' where there is none, or none any more."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace") if self.path else ""
        except OSError:
            return ""

    @contextmanager
    def progress(self) -> Iterator[None]:
        """While the engine starts, say every ten seconds what it last wrote."""
        done = threading.Event()

        def report() -> None:
            started = time.monotonic()
            while not done.wait(PROGRESS_SECONDS):
                log(f"  {time.monotonic() - started:.0f} s: {self.last_line()}")

        thread = threading.Thread(target=report, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def last_line(self) -> str:
        """The newest line of the log, cut to a terminal's width."""
        lines = (line for line in reversed(self.text().splitlines()) if line.strip())
        newest = next(lines, "still starting")
        return COMPILING[1] if COMPILING[0] in newest else ORIGIN.sub("", newest)[:160]
