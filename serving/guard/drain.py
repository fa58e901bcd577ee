"""The way out: once the server is told to stop, new requests are sent elsewhere while those in flight finish.

The launcher's signal handler calls `begin()`, then waits on `idle()`. Where several server processes share one port it
makes `drain_file` instead, which each of them sees, and watches the gauge of requests in flight on /metrics.
"""

import asyncio
import os
import time
from collections.abc import Callable

from serving.guard import metrics

FILE_CHECK_SECONDS = 0.5


class Drain:
    """Whether this process still takes requests, and how many it has in flight."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begun = False
        self.in_flight = 0
        self.checked_at = float("-inf")
        self.changed = asyncio.Event()

    def begin(self) -> None:
        """Take no new request from now on. May be called from a signal handler, and more than once."""
        self.begun = True
        metrics.DRAINING.set(1)

    async def idle(self) -> None:
        """Return when no request is in flight."""
        while self.in_flight:
            self.changed.clear()
            await self.changed.wait()

    def enter(self) -> None:
        """Count one request in."""
        self.in_flight += 1
        metrics.IN_FLIGHT.inc()

    def leave(self) -> None:
        """Count it out."""
        self.in_flight -= 1
        metrics.IN_FLIGHT.dec()
        self.changed.set()

    def draining(self, file: str | None) -> bool:
        """Whether to refuse new requests: `begin` was called or `file` is there. Looks at most twice a second."""
        if file and not self.begun and self.clock() - self.checked_at >= FILE_CHECK_SECONDS:
            self.checked_at = self.clock()
            if os.path.exists(file):
                self.begin()
        return self.begun


PROCESS = Drain()
begin = PROCESS.begin
idle = PROCESS.idle
