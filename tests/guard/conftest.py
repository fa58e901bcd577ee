"""What the guard's tests share: an app under the guard. Another base app than the stub can take its place."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from prometheus_client import REGISTRY
from starlette.types import ASGIApp

from serving.guard.drain import Drain
from serving.guard.settings import GuardSettings
from serving.guard.stack import Guard
from tests.guard.stub import Clock, Engine

T = TypeVar("T")
Guarded = Callable[..., Guard]
Growth = Callable[..., float]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What runs the coroutines among the tests."""
    return "asyncio"


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_guard(engine: ASGIApp, clock: Clock | None = None, **settings: Any) -> Guard:
    """The guard, with these settings, around the engine. Its clocks stand still until the test moves them."""
    clock = clock or Clock()
    settings.setdefault("log_format", "none")
    return Guard(engine, GuardSettings(**settings), clock=clock, wall=clock, drain=Drain())


def layer_of(guard: Guard, kind: type[T]) -> T:
    """One of the guard's layers."""
    layer: Any = guard.layers
    while not isinstance(layer, kind):
        layer = layer.app
    return layer


@pytest.fixture
def guarded(engine: Engine, clock: Clock) -> Guarded:
    """Makes guards around the test's engine, with the test's clock."""
    return partial(make_guard, engine, clock)


@pytest.fixture
def counted() -> Growth:
    """How much a metric has grown since the test began asking for it."""
    before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def growth(name: str, **labels: str) -> float:
        value = REGISTRY.get_sample_value(name, labels) or 0.0
        return value - before.setdefault((name, tuple(sorted(labels.items()))), value)

    return growth
