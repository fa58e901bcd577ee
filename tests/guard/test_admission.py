"""What is let in before the engine, and what is told to come back."""

import asyncio
import time

import pytest

from serving.guard.admission import Admission
from tests.guard.conftest import Guarded, layer_of, make_guard
from tests.guard.stub import Call, Clock, Engine, chat

pytestmark = pytest.mark.anyio


class Full:
    """A guard with `max_num_seqs` of 1, and calls that the engine answers one by one."""

    def __init__(self, engine: Engine, clock: Clock, **settings: float) -> None:
        self.engine, self.clock = engine, clock
        engine.gate = asyncio.Semaphore(0)
        self.guard = make_guard(engine, clock, max_num_seqs=1, **settings)
        self.calls: list[Call] = []

    async def ask(self, **fields: object) -> Call:
        """Send one more; returns when it is in the engine or refused."""
        call, before = Call(self.guard, body=chat(**fields)).start(), len(self.engine.bodies)
        while len(self.engine.bodies) == before and not call.sent:
            await asyncio.sleep(0)
        if not call.sent:
            self.calls.append(call)
        return call

    async def answer(self, seconds: float) -> None:
        """Let that much time pass, then answer the oldest."""
        self.clock.now += seconds
        assert self.engine.gate is not None
        self.engine.gate.release()
        assert (await self.calls.pop(0).done()).status == 200


async def test_a_request_that_would_wait_too_long_is_told_when_to_come_back(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queue_seconds=10)
    for _ in range(8):
        await full.ask()
    for _ in range(4):
        await full.answer(seconds=4)
    # One runs and three wait, 4 s each: one more would wait 16 s.
    refused = await full.ask()
    assert (refused.status, refused.error["code"], refused.answer["retry-after"]) == (503, "overloaded", "6")
    assert "16 s" in refused.error["message"]
    await full.answer(seconds=4)
    await full.answer(seconds=4)
    # One runs and one waits: 8 s are fine.
    assert not (await full.ask()).sent


async def test_the_line_is_bounded_before_any_speed_is_known(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queued_requests=2)
    calls = [await full.ask() for _ in range(5)]
    assert [call.status for call in calls] == [0, 0, 0, 503, 503]
    assert calls[3].answer["retry-after"] == "1"


async def test_the_line_is_bounded_in_prompt_tokens(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queued_tokens=1000)
    await full.ask()
    assert not (await full.ask(user="x" * 1000)).sent
    assert (await full.ask(user="x" * 4000)).status == 503
    assert not (await full.ask(user="x" * 1000)).sent


async def test_an_idle_engine_takes_a_prompt_of_any_size(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queued_tokens=10, max_queued_requests=1)
    assert not (await full.ask(user="x" * 100_000, n=30)).sent


async def test_several_answers_to_one_request_take_several_places(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queued_requests=4)
    await full.ask()
    assert not (await full.ask(n=4)).sent
    assert (await full.ask()).status == 503


async def test_whoever_leaves_frees_the_place(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queued_requests=1)
    await full.ask()
    waiting = await full.ask()
    assert (await full.ask()).status == 503
    waiting.leave()
    await waiting.done()
    assert not (await full.ask()).sent


async def test_the_size_of_a_prompt_is_learnt_from_the_engine(engine: Engine) -> None:
    engine.events = [b'data: {"usage":{"prompt_tokens":1000,"completion_tokens":1}}\n\n', b"data: [DONE]\n\n"]
    seen: list[float] = []
    guard = make_guard(engine, max_num_seqs=1)
    layer = layer_of(guard, Admission)
    for _ in range(50):
        await Call(guard, body=chat(stream=True, user="x" * (2000 - len(chat(stream=True, user=""))))).start().done()
        seen.append(layer.tokens_per_byte)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.5, rel=0.01)


async def test_routes_that_generate_nothing_are_not_held_up(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queued_requests=0)
    await full.ask()
    assert (await full.ask()).status == 503
    assert engine.gate is not None
    call = Call(full.guard, path="/tokenize", body=b"{}").start()
    engine.gate.release()
    engine.gate.release()
    assert (await call.done()).status == 200


async def test_what_could_not_be_served_is_refused_before_its_body_is_there(engine: Engine) -> None:
    full = Full(engine, Clock(time.time()), max_queued_requests=0, requests_per_minute=2)
    await full.ask()
    for _ in range(5):
        call = Call(full.guard).start(send_body=False)
        assert (await call.done()).error["code"] == "overloaded"
    await full.answer(seconds=1)
    # The five have not been counted: this is the second request of the minute.
    assert not (await full.ask()).sent
    await full.answer(seconds=1)
    assert (await full.ask()).status == 429


async def test_nobody_learns_without_a_key_that_the_server_is_busy(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock, max_queued_requests=0)
    await full.ask()
    outsider = Call(full.guard, body=chat(), client="192.0.2.1").start()
    assert (await outsider.done()).status == 401


async def test_an_unknown_size_of_the_engine_bounds_nothing(guarded: Guarded, engine: Engine) -> None:
    engine.gate = asyncio.Semaphore(0)
    guard = guarded(max_num_seqs=0, max_queued_requests=0)
    calls = [Call(guard, body=chat()).start() for _ in range(20)]
    while len(engine.bodies) < 20:
        await asyncio.sleep(0)
    for _ in calls:
        engine.gate.release()
    assert {(await call.done()).status for call in calls} == {200}


async def test_processes_share_the_engine(engine: Engine, clock: Clock) -> None:
    full = Full(engine, clock)
    full.guard = make_guard(engine, clock, max_num_seqs=5, api_server_count=2, max_queued_requests=0)
    assert [(await full.ask()).status for _ in range(4)] == [0, 0, 0, 503]
