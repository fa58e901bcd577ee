"""Requests that take too long end for the client and in the engine. Limits here are short; no test measures time."""

import asyncio

import pytest
from starlette.types import Receive, Scope, Send

from tests.guard.conftest import Guarded, make_guard
from tests.guard.stub import EVENTS, Call, Clock, Engine, chat, respond

pytestmark = pytest.mark.anyio


@pytest.fixture
def stuck(engine: Engine) -> Engine:
    """An engine that never answers by itself."""
    engine.gate = asyncio.Semaphore(0)
    return engine


async def test_a_request_over_its_time_gets_an_error_and_the_engine_stops(guarded: Guarded, stuck: Engine) -> None:
    call = await Call(guarded(request_timeout=0.01), body=chat()).start().done()
    assert (call.status, call.error["code"]) == (504, "request_timeout")
    assert (stuck.disconnects, stuck.cancelled) == (1, 0)


async def test_a_stream_over_its_time_ends_in_an_error_event(guarded: Guarded, stuck: Engine) -> None:
    stuck.gate = asyncio.Semaphore(2)
    call = await Call(guarded(request_timeout=0.01), body=chat(stream=True)).start().done()
    assert call.status == 200
    assert call.content.startswith(EVENTS[0] + EVENTS[1])
    assert call.error["code"] == "request_timeout"
    assert not call.sent[-1].get("more_body")
    assert stuck.disconnects == 1


async def test_a_stream_without_a_first_token_ends(guarded: Guarded, stuck: Engine) -> None:
    guard = guarded(first_token_timeout=0.01, request_timeout=0)
    call = await Call(guard, body=chat(stream=True)).start().done()
    assert call.error["code"] == "first_token_timeout"
    assert stuck.disconnects == 1


async def test_a_stream_that_has_begun_meets_the_first_limit(guarded: Guarded, stuck: Engine) -> None:
    stuck.gate = asyncio.Semaphore(1)
    call = Call(guarded(first_token_timeout=0.01, request_timeout=0), body=chat(stream=True)).start()
    await call.until(2)
    await asyncio.sleep(0.03)
    for _ in EVENTS[1:]:
        stuck.gate.release()
    await call.done()
    assert call.content == b"".join(EVENTS)


async def test_the_first_token_of_an_answer_that_is_no_stream_cannot_be_seen(guarded: Guarded, stuck: Engine) -> None:
    call = Call(guarded(first_token_timeout=0.01, request_timeout=0), body=chat()).start()
    await asyncio.sleep(0.03)
    assert stuck.gate is not None
    stuck.gate.release()
    assert (await call.done()).status == 200


async def test_an_app_that_does_not_listen_is_cancelled(
    guarded: Guarded, stuck: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.guard.deadlines.GRACE_SECONDS", 0.01)
    stuck.listens = False
    call = await Call(guarded(request_timeout=0.01), body=chat()).start().done()
    assert (call.status, call.error["code"]) == (504, "request_timeout")
    assert (stuck.disconnects, stuck.cancelled) == (0, 1)


async def test_what_the_app_says_after_the_deadline_is_not_passed_on(stuck: Engine) -> None:
    """vLLM answers `null` with 200 to a client that has left."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        await respond(send, 200, b"null")

    call = await Call(make_guard(app, request_timeout=0.01), body=chat()).start().done()
    assert (call.status, call.error["code"]) == (504, "request_timeout")
    assert len(call.sent) == 2


async def test_an_error_that_the_end_brings_about_is_not_reported(
    stuck: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()
        raise OSError("client disconnected")

    call = await Call(make_guard(app, request_timeout=0.01), body=chat()).start().done()
    assert call.error["code"] == "request_timeout"
    assert caplog.records == []


async def test_a_client_that_reads_nothing_does_not_hold_its_request(
    guarded: Guarded, stuck: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error event cannot be sent either; after a moment the connection is given up."""
    monkeypatch.setattr("serving.guard.exchange.PARTING_SECONDS", 0.01)
    stuck.gate = None
    guard = guarded(request_timeout=0.01)
    call = Call(guard, body=chat(stream=True))

    async def blocked(message: object) -> None:
        if len(call.sent) == 1:
            await asyncio.get_running_loop().create_future()
        call.sent.append(message)  # type: ignore[arg-type]

    monkeypatch.setattr(call, "send", blocked)
    await call.start().done()
    assert len(call.sent) == 1
    assert guard.context.activity.running == guard.context.drain.in_flight == 0


async def test_no_limits_mean_no_timers(guarded: Guarded, engine: Engine) -> None:
    call = await Call(guarded(request_timeout=0, first_token_timeout=0), body=chat(stream=True)).start().done()
    assert call.content == b"".join(EVENTS)


async def test_a_deadline_with_no_token_for_anyone_makes_the_engine_suspect(stuck: Engine) -> None:
    clock = Clock()
    guard = make_guard(stuck, clock, request_timeout=0.01)
    await Call(guard, body=chat()).start().done()
    assert guard.context.activity.stuck_at == clock.now
