"""Headers that code deep inside a request asks for, on a tiny ASGI app."""

import asyncio
from typing import Any

import pytest

from chat_template.notices import NoticeHeaders, notify


async def respond(send: Any, *bodies: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    for number, body in enumerate(bodies):
        await send({"type": "http.response.body", "body": body, "more_body": number < len(bodies) - 1})


async def call(app: Any, scope_type: str = "http") -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    await NoticeHeaders(app)({"type": scope_type}, receive, send)
    return sent


async def noticing(scope: Any, receive: Any, send: Any) -> None:
    """As vLLM does it: the notice comes from a task of its own."""

    async def task() -> None:
        notify("x-note", "1")

    await asyncio.create_task(task())
    await respond(send, b"data: 1\n\n", b"data: 2\n\n")


async def silent(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"ok")


def test_a_notice_becomes_a_header_and_the_stream_passes_piece_by_piece() -> None:
    start, *bodies = asyncio.run(call(noticing))
    assert start["headers"] == [(b"a", b"b"), (b"x-note", b"1")]
    assert [body["body"] for body in bodies] == [b"data: 1\n\n", b"data: 2\n\n"]


def test_without_a_notice_the_messages_are_the_apps_own() -> None:
    start, _ = asyncio.run(call(silent))
    assert start["headers"] == [(b"a", b"b")]


def test_requests_do_not_see_each_others_notices() -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        return await asyncio.gather(call(noticing), call(silent))

    loud, quiet = asyncio.run(both())
    assert len(loud[0]["headers"]) == 2
    assert len(quiet[0]["headers"]) == 1


def test_a_notice_outside_a_request_is_dropped() -> None:
    notify("x-note", "1")
    start, _ = asyncio.run(call(silent))
    assert len(start["headers"]) == 1


def test_other_scopes_pass() -> None:
    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        notify("x-note", "1")
        await send({"type": "lifespan.startup.complete"})

    assert asyncio.run(call(lifespan, "lifespan")) == [{"type": "lifespan.startup.complete"}]


def test_an_error_of_the_app_passes() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(call(broken))
