"""When a server is ready, and what it takes to find out."""

import asyncio
import json

import pytest

from tests.guard.conftest import Guarded
from tests.guard.stub import Call, Clock, Engine, chat

pytestmark = pytest.mark.anyio
PROBE = 30.0


class Ready:
    """Asks /ready, and lets the probe in the background come to its end."""

    def __init__(self, guarded: Guarded, engine: Engine, clock: Clock) -> None:
        self.engine, self.clock = engine, clock
        self.guard = guarded(ready_probe_seconds=PROBE, request_timeout=0.01, first_token_timeout=0)

    async def ask(self, after: float = 0) -> str:
        """'ready', or the reason why not."""
        self.clock.now += after
        call = await Call(self.guard, "GET", "/ready").start().done()
        await asyncio.sleep(0.001)
        if call.status == 200:
            return str(json.loads(call.content)["status"])
        assert call.status == 503
        return str(call.error["code"])

    @property
    def probes(self) -> int:
        return sum(body == b'{"model": "stub", "prompt": "1", "max_tokens": 1}' for body in self.engine.bodies)


@pytest.fixture
def ready(guarded: Guarded, engine: Engine, clock: Clock) -> Ready:
    return Ready(guarded, engine, clock)


async def test_ready_after_the_first_token(ready: Ready) -> None:
    assert await ready.ask() == "starting"
    assert await ready.ask() == "ready"
    assert ready.probes == 1


async def test_an_idle_engine_is_probed_at_most_every_so_often(ready: Ready) -> None:
    await ready.ask()
    for _ in range(10):
        assert await ready.ask(after=PROBE / 10) == "ready"
    assert ready.probes == 2


async def test_tokens_for_clients_make_probes_needless(ready: Ready) -> None:
    for _ in range(5):
        await Call(ready.guard, body=chat(stream=True)).start().done()
        assert await ready.ask(after=PROBE - 1) == "ready"
    assert ready.probes == 0


async def test_an_engine_that_fails_its_probe_is_not_ready_until_it_gives_a_token(ready: Ready, engine: Engine) -> None:
    await ready.ask()
    engine.failure = RuntimeError()
    assert await ready.ask(after=PROBE) == "ready"  # what is known while the probe runs
    assert await ready.ask() == "engine_silent"
    engine.failure = None
    assert await ready.ask(after=1) == "engine_silent"
    await Call(ready.guard, body=chat(stream=True)).start().done()
    assert await ready.ask() == "ready"
    assert ready.probes == 2


async def test_an_engine_that_never_gave_a_token_is_not_ready(ready: Ready, engine: Engine) -> None:
    engine.failure = RuntimeError()
    assert await ready.ask() == "starting"
    assert await ready.ask() == "engine_silent"
    engine.failure = None
    assert await ready.ask(after=PROBE) == "engine_silent"
    assert await ready.ask() == "ready"


async def test_a_dead_engine_is_known_at_once(ready: Ready, engine: Engine) -> None:
    await ready.ask()
    engine.healthy = False
    assert await ready.ask() == "engine_unhealthy"
    engine.healthy = True
    assert await ready.ask() == "ready"


async def test_a_busy_engine_is_never_called_unready_for_being_slow(
    ready: Ready, engine: Engine, guarded: Guarded
) -> None:
    ready.guard = guarded(ready_probe_seconds=PROBE)
    await ready.ask()
    engine.gate = asyncio.Semaphore(0)
    slow = Call(ready.guard, body=chat(stream=True)).start()
    while len(engine.bodies) < 2:
        await asyncio.sleep(0)
    for _ in range(20):
        assert await ready.ask(after=PROBE) == "ready"
    assert ready.probes == 1
    slow.leave()
    await slow.done()


async def test_an_engine_in_which_requests_die_of_age_is_asked_even_if_busy(ready: Ready, engine: Engine) -> None:
    await ready.ask()
    ready.clock.now += 1
    engine.gate = asyncio.Semaphore(0)
    late = await Call(ready.guard, body=chat()).start().done()
    assert late.error["code"] == "request_timeout"
    engine.failure = RuntimeError()
    engine.gate = None
    assert await ready.ask(after=PROBE) == "ready"
    assert await ready.ask() == "engine_silent"


async def test_ready_does_not_wait_for_a_token(ready: Ready, engine: Engine) -> None:
    engine.gate = asyncio.Semaphore(0)
    assert [await ready.ask(), await ready.ask(after=PROBE)] == ["starting", "starting"]
    assert ready.probes == 1
    engine.gate.release()
    await asyncio.sleep(0.001)
    assert await ready.ask() == "ready"


async def test_a_probe_is_bounded_in_time(guarded: Guarded, engine: Engine, ready: Ready) -> None:
    ready.guard = guarded(ready_probe_timeout=0.001)
    engine.gate = asyncio.Semaphore(0)
    assert await ready.ask() == "starting"
    await asyncio.sleep(0.01)
    assert await ready.ask() == "engine_silent"


async def test_no_key_is_needed(guarded: Guarded) -> None:
    call = await Call(guarded(), "GET", "/ready", client="192.0.2.1").start().done()
    assert call.error["code"] == "starting"
