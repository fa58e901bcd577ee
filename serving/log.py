"""Plain progress lines for people, on stderr, so that stdout stays free for results."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def log(message: str) -> None:
    """Print one line to stderr at once. Where that cannot be written (a full disk) the work goes on all the same."""
    with suppress(OSError, ValueError):  # ValueError: closed
        print(message, file=sys.stderr, flush=True)


@contextmanager
def step(message: str) -> Iterator[None]:
    """Say what is being done, and after it how many seconds it took."""
    started = time.monotonic()
    log(f"{message} …")
    yield
    log(f"{message}: {time.monotonic() - started:.1f} s")
