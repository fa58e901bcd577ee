"""What the layers of one guard share."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from starlette.types import ASGIApp

from serving.guard.drain import PROCESS, Drain
from serving.guard.line import Line
from serving.guard.served import Served
from serving.guard.settings import GuardSettings


@dataclass
class Activity:
    """What this process last saw of the engine. Times are the clock's."""

    token_at: float = -math.inf
    stuck_at: float = -math.inf  # a request ran into its deadline while no token came for anyone
    running: int = 0  # requests that are in the engine


@dataclass(frozen=True)
class Context:
    """Settings, the app behind the guard, clocks in seconds (`clock` monotonic, `wall` the time of day), and state."""

    settings: GuardSettings
    engine: ASGIApp
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    drain: Drain = PROCESS
    activity: Activity = field(default_factory=Activity)
    served: Served = field(default_factory=Served)

    @cached_property
    def line(self) -> Line | None:
        """The line before the engine, or this process's share of it; None where the engine's size is not known."""
        capacity = -(-self.settings.max_num_seqs // self.settings.api_server_count)
        return Line(capacity) if capacity else None
