"""Answers that are passed on as they come, and what becomes of those that go wrong."""

import asyncio
import json

import pytest
from starlette.types import Receive, Scope, Send

from serving.guard.refusal import Refusal, retry_after
from tests.guard.conftest import Growth, Guarded, make_guard
from tests.guard.stub import ANSWER, CHAT, EVENTS, Call, Engine, chat

pytestmark = pytest.mark.anyio
ROUTES = [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"]
NAMED = {
    "/v1/responses": (b"event: response.created\ndata: {}\n\n", b"event: response.completed\ndata: {}\n\n"),
    "/v1/messages": (b"event: message_start\ndata: {}\n\n", b"event: message_stop\ndata: {}\n\n"),
}


async def test_the_first_part_of_a_stream_arrives_before_the_second_exists(guarded: Guarded, engine: Engine) -> None:
    engine.gate = asyncio.Semaphore(0)
    call = Call(guarded(), body=chat(stream=True)).start()
    for parts, event in enumerate(EVENTS):
        await call.until(1 + parts)
        assert call.content == b"".join(EVENTS[:parts])
        assert engine.gate.locked()
        engine.gate.release()
        await call.until(2 + parts)
        assert call.sent[1 + parts] == {"type": "http.response.body", "body": event, "more_body": True}
    await call.done()
    assert call.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("stream", [True, False])
async def test_the_answer_is_not_changed(guarded: Guarded, stream: bool) -> None:
    call = await Call(guarded(), body=chat(stream=stream)).start().done()
    assert call.content == (b"".join(EVENTS) if stream else ANSWER.encode())
    assert call.answer.get("x-accel-buffering") == ("no" if stream else None)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_failure_before_the_answer_is_an_error_body(guarded: Guarded, engine: Engine, path: str) -> None:
    engine.failure = RuntimeError("secret detail of the inside")
    call = await Call(guarded(), path=path, body=chat()).start().done()
    assert (call.status, call.error["code"], call.error["type"]) == (500, "internal_error", "server_error")
    assert b"secret" not in call.content and b"Traceback" not in call.content
    assert call.answer["content-type"] == "application/json"
    assert int(call.answer["content-length"]) == len(call.content)


@pytest.mark.parametrize("path", ROUTES)
async def test_a_failure_in_a_stream_is_an_error_event(guarded: Guarded, engine: Engine, path: str) -> None:
    engine.events, engine.gate = NAMED.get(path, EVENTS), asyncio.Semaphore(1)
    call = Call(guarded(), path=path, body=chat(stream=True)).start()
    await call.until(2)
    engine.failure = RuntimeError("secret detail of the inside")
    engine.gate.release()
    await call.done()
    first, _, last = call.content.removesuffix(b"\n\n").partition(b"\n\n")
    assert first + b"\n\n" == engine.events[0]
    assert last.startswith(b"event: error\ndata: {" if path in NAMED else b"data: {")
    assert call.error["code"] == "internal_error"
    assert b"secret" not in call.content
    assert not call.sent[-1].get("more_body")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("kept", [0, 1])
async def test_a_stream_that_stops_short_ends_in_an_error_event(
    guarded: Guarded, engine: Engine, path: str, kept: int
) -> None:
    engine.events = NAMED.get(path, EVENTS)[:kept]
    call = await Call(guarded(), path=path, body=chat(stream=True)).start().done()
    assert call.content.startswith(b"".join(engine.events))
    assert call.error["code"] == "stream_cut_off"
    assert b"[DONE]" not in call.content
    assert not call.sent[-1].get("more_body")


@pytest.mark.parametrize("first", [b"", EVENTS[0]])
async def test_the_engines_own_error_in_a_stream_is_passed_on_and_counted(
    guarded: Guarded, engine: Engine, counted: Growth, first: bytes
) -> None:
    counted("xuanyuan_rejections_total", reason="engine_error")
    engine.events = [first, b'data: {"error": {"message": "EngineCore died"}}\n\n', b"data: [DONE]\n\n"]
    guard = guarded()
    call = await Call(guard, body=chat(stream=True)).start().done()
    assert call.content == b"".join(engine.events)
    assert counted("xuanyuan_rejections_total", reason="engine_error") == 1


@pytest.mark.parametrize("path", sorted(NAMED))
async def test_a_complete_stream_gets_nothing_added(guarded: Guarded, engine: Engine, path: str) -> None:
    engine.events = NAMED[path]
    call = await Call(guarded(), path=path, body=chat(stream=True)).start().done()
    assert call.content == b"".join(NAMED[path])


async def test_an_event_cut_off_in_its_middle_is_closed_before_the_error(guarded: Guarded, engine: Engine) -> None:
    engine.events = [EVENTS[0], b'data: {"choices":[{"del']
    call = await Call(guarded(), body=chat(stream=True)).start().done()
    assert call.content.split(b"\n\n")[1] == b'data: {"choices":[{"del'
    assert call.error["code"] == "stream_cut_off"


async def test_an_answer_that_never_comes_is_an_error() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    call = await Call(make_guard(silent), body=chat()).start().done()
    assert (call.status, call.error["code"]) == (500, "stream_cut_off")


async def test_a_server_that_is_killed_tells_its_streams(guarded: Guarded, engine: Engine) -> None:
    engine.gate = asyncio.Semaphore(1)
    call = Call(guarded(), body=chat(stream=True)).start()
    await call.until(2)
    assert call.task is not None
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    assert call.error["code"] == "server_stopped"
    assert engine.cancelled == 1


async def test_an_error_body_suits_openais_and_anthropics_clients() -> None:
    refusal = Refusal(429, "rate_limit_exceeded", "Slow down “now”.", param="n")
    assert json.loads(refusal.body) == {
        "type": "error",
        "error": {
            "message": "Slow down “now”.",
            "type": "rate_limit_error",
            "param": "n",
            "code": "rate_limit_exceeded",
        },
    }


@pytest.mark.parametrize(("seconds", "text"), [(-5, "1"), (0, "1"), (0.2, "1"), (1, "1"), (1.01, "2"), (59.5, "60")])
async def test_retry_after_is_whole_seconds(seconds: float, text: str) -> None:
    assert retry_after(seconds) == {"retry-after": text}


async def test_no_cors_headers_unless_origins_are_set(guarded: Guarded) -> None:
    headers = {"origin": "https://page.example", "access-control-request-method": "POST"}
    call = await Call(guarded(), body=chat(), headers=headers).start().done()
    assert not [name for name in call.answer if name.startswith("access-control")]
    assert (await Call(guarded(), "OPTIONS", headers=headers).start().done()).status == 405


async def test_the_origins_that_are_set_may_ask(guarded: Guarded, engine: Engine) -> None:
    guard = guarded(allowed_origins="https://page.example, https://other.example")
    for origin, allowed in (("https://page.example", True), ("https://evil.example", False)):
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-api-key",
        }
        preflight = await Call(guard, "OPTIONS", headers=headers).start().done()
        assert preflight.status == (200 if allowed else 400)
        call = await Call(guard, body=chat(), headers={"origin": origin}).start().done()
        assert call.answer.get("access-control-allow-origin") == (origin if allowed else None)
