"""The way out: once the server is told to stop, new requests are sent elsewhere while those in flight finish.

The launcher's signal handler calls `announce()`, so that clients have time to go, then `begin()`, then waits on
`idle()`; of several server processes each does by itself.
"""

import asyncio

from serving.guard import metrics


class Drain:
    """Whether this process still takes requests, and how many it has in flight.

    `announced`: it goes, and says so with each answer. `begun`: it takes none.
    """

    def __init__(self) -> None:
        self.announced = False
        self.begun = False
        self.in_flight = 0
        self.changed = asyncio.Event()

    def announce(self) -> None:
        """Not ready from now on, and every connection ends with its answer; requests are still taken."""
        self.announced = True

    def begin(self) -> None:
        """Take no new request from now on. May be called from a signal handler, and more than once."""
        self.announced = self.begun = True
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


PROCESS = Drain()
begin = PROCESS.begin
idle = PROCESS.idle
