"""Stopping without breaking an answer."""

import asyncio

import pytest

from tests.guard.conftest import Guarded
from tests.guard.stub import EVENTS, Call, Engine, chat

pytestmark = pytest.mark.anyio


async def test_new_requests_are_sent_elsewhere_and_those_in_flight_finish(guarded: Guarded, engine: Engine) -> None:
    engine.gate = asyncio.Semaphore(1)
    guard = guarded()
    drain = guard.context.drain
    stream = Call(guard, body=chat(stream=True)).start()
    await stream.until(2)
    drain.begin()
    drain.begin()
    idle = asyncio.ensure_future(drain.idle())

    for path, method in (("/v1/chat/completions", "POST"), ("/v1/models", "GET"), ("/tokenize", "POST")):
        new = await Call(guard, method, path, chat()).start().done()
        assert (new.status, new.error["code"]) == (503, "draining")
        assert (new.answer["connection"], new.answer["retry-after"]) == ("close", "1")
    assert not idle.done() and drain.in_flight == 1
    for _ in EVENTS[1:]:
        engine.gate.release()
    await stream.done()
    await asyncio.wait_for(idle, 1)
    assert stream.content == b"".join(EVENTS)


async def test_liveness_stays_and_readiness_goes(guarded: Guarded) -> None:
    guard = guarded()
    guard.context.drain.begin()
    for path in ("/health", "/metrics", "/"):
        assert (await Call(guard, "GET", path).start().done()).status == 200
    ready = await Call(guard, "GET", "/ready").start().done()
    assert (ready.status, ready.error["code"]) == (503, "draining")


async def test_before_that_connections_end_with_their_answer(guarded: Guarded) -> None:
    guard = guarded()
    kept = await Call(guard, body=chat()).start().done()
    assert (kept.status, "connection" in kept.answer) == (200, False)
    guard.context.drain.announce()
    for stream in (False, True):
        last = await Call(guard, body=chat(stream=stream)).start().done()
        assert (last.status, last.answer["connection"]) == (200, "close")
    ready = await Call(guard, "GET", "/ready").start().done()
    assert (ready.status, ready.error["code"]) == (503, "draining")


async def test_an_idle_server_is_idle_at_once(guarded: Guarded) -> None:
    await asyncio.wait_for(guarded().context.drain.idle(), 1)


async def test_whatever_ends_a_request_it_is_counted_out(guarded: Guarded, engine: Engine) -> None:
    guard = guarded()
    engine.failure = RuntimeError()
    await Call(guard, body=chat()).start().done()
    await Call(guard, body=b"{").start().done()
    left = Call(guard).start(send_body=False)
    left.leave()
    await left.done()
    assert guard.context.drain.in_flight == 0
