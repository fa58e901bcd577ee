"""Request ids, the access line and the metrics."""

import asyncio
import errno
import json
import sys
from typing import Any

import pytest
from prometheus_client import generate_latest

from tests.guard.conftest import Growth, Guarded
from tests.guard.stub import CHAT, EVENTS, Call, Clock, Engine, chat

pytestmark = pytest.mark.anyio
SECRET_TEXT = "the-text-of-the-prompt"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-DEF_1.2", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("a b", False),
        ("a\nb", False),
        ("é", False),
        ('{"a":1}', False),
        ("../../x", False),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/nothing"])
async def test_one_id_on_the_answer_and_in_the_engine(
    guarded: Guarded, engine: Engine, given: str, kept: bool, path: str
) -> None:
    call = await Call(guarded(), path=path, body=chat(), headers={"X-Request-Id": given}).start().done()
    answered = [value.decode() for name, value in call.sent[0]["headers"] if name == b"x-request-id"]
    assert len(answered) == 1
    assert (answered[0] == given) == kept
    assert kept or len(answered[0]) == 32
    for scope in engine.scopes:
        assert [value for name, value in scope["headers"] if name == b"x-request-id"] == [answered[0].encode()]


async def test_ids_differ(guarded: Guarded) -> None:
    guard = guarded()
    ids = {(await Call(guard, "GET", "/health").start().done()).answer["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The access lines so far, as JSON."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


async def test_the_line_of_a_stream(
    guarded: Guarded, engine: Engine, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.gate = asyncio.Semaphore(0)
    call = Call(
        guarded(log_format="json"), body=chat(stream=True, user=SECRET_TEXT), headers={"X-Request-Id": "r1"}
    ).start()
    await call.until(1)
    clock.now += 1.5
    engine.gate.release()
    await call.until(2)
    clock.now += 2
    for _ in EVENTS:
        engine.gate.release()
    await call.done()
    assert lines(capsys) == [
        {
            "time": "1970-01-12T13:46:43.500+00:00",
            "id": "r1",
            "key": "anonymous",
            "method": "POST",
            "route": CHAT,
            "status": 200,
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "first_token_s": 1.5,
            "total_s": 3.5,
        }
    ]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"method": "GET", "path": "/health"}, {"route": "/health", "status": 200, "key": "-"}),
        ({"method": "GET", "path": "/x"}, {"route": "other", "status": 404, "reason": "not_found", "key": "-"}),
        ({"body": b"{"}, {"route": CHAT, "status": 400, "reason": "invalid_json", "key": "anonymous"}),
        (
            {"body": chat()},
            {"route": CHAT, "status": 200, "prompt_tokens": 7, "completion_tokens": 5, "key": "anonymous"},
        ),
        ({"client": "192.0.2.1"}, {"route": CHAT, "status": 401, "reason": "missing_api_key", "key": "-"}),
    ],
)
async def test_what_a_line_says(
    guarded: Guarded, capsys: pytest.CaptureFixture[str], call: dict[str, Any], expected: dict[str, Any]
) -> None:
    await Call(guarded(log_format="json"), **call).start().done()
    [line] = lines(capsys)
    assert {name: line[name] for name in line if name not in ("id", "time", "method", "total_s")} == expected


async def test_a_client_that_leaves(guarded: Guarded, engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.gate = asyncio.Semaphore(2)
    guard = guarded(log_format="json")
    stream = Call(guard, body=chat(stream=True)).start()
    await stream.until(3)
    stream.leave()
    await stream.done()
    plain = Call(guard, body=chat()).start()
    while len(engine.bodies) < 2:
        await asyncio.sleep(0)
    plain.leave()
    await plain.done()
    assert [(line["status"], line["reason"]) for line in lines(capsys)] == [(499, "client_gone")] * 2


async def test_the_line_for_people(guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    await Call(guarded(log_format="console"), body=chat(), headers={"X-Request-Id": "r1"}).start().done()
    assert capsys.readouterr().err == (
        f"1970-01-12T13:46:40.000+00:00 POST {CHAT} 200 id=r1 key=anonymous prompt_tokens=7 completion_tokens=5"
        " total_s=0.0\n"
    )


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "body", [chat(user=SECRET_TEXT, stream=True), b'{"' + SECRET_TEXT.encode(), SECRET_TEXT.encode()]
)
async def test_no_text_of_a_prompt_in_logs_or_metrics(
    guarded: Guarded, engine: Engine, capsys: pytest.CaptureFixture[str], log_format: str, body: bytes
) -> None:
    for path in (CHAT, f"/{SECRET_TEXT}", f"/v1/models?q={SECRET_TEXT}"):
        await Call(guarded(log_format=log_format), path=path, body=body).start().done()
    said = capsys.readouterr()
    for text in (said.err, said.out, generate_latest().decode()):
        assert SECRET_TEXT not in text


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("closed"), BrokenPipeError()]
)
async def test_a_log_that_cannot_be_written_costs_no_answer(
    guarded: Guarded, counted: Growth, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise error

        def flush(self) -> None:
            raise error

    counted("xuanyuan_log_failures_total")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Full())
        call = await Call(guarded(log_format="json"), body=chat()).start().done()
    assert call.status == 200
    assert counted("xuanyuan_log_failures_total") == 1


async def test_the_metrics_of_an_answer(guarded: Guarded, engine: Engine, clock: Clock, counted: Growth) -> None:
    labels = {"route": CHAT, "key": "anonymous"}

    def grown() -> list[float]:
        return [
            counted("xuanyuan_requests_total", **labels, code="200"),
            counted("xuanyuan_tokens_total", key="anonymous", kind="prompt"),
            counted("xuanyuan_tokens_total", key="anonymous", kind="completion"),
            counted("xuanyuan_first_token_seconds_count", route=CHAT),
            counted("xuanyuan_first_token_seconds_sum", route=CHAT),
            counted("xuanyuan_request_seconds_count", route=CHAT),
            counted("xuanyuan_request_seconds_sum", route=CHAT),
            counted("xuanyuan_requests_in_flight"),
        ]

    grown()
    engine.gate = asyncio.Semaphore(0)
    call = Call(guarded(), body=chat(stream=True)).start()
    await call.until(1)
    assert counted("xuanyuan_requests_in_flight") == 1
    clock.now += 3
    for _ in EVENTS:
        engine.gate.release()
    await call.done()
    assert grown() == [1, 7, 5, 1, 3, 1, 3, 0]


@pytest.mark.parametrize(
    ("call", "reason", "code"),
    [
        ({"path": "/x"}, "not_found", "404"),
        ({"body": b"{"}, "invalid_json", "400"),
        ({"body": chat(n=99)}, "limit_exceeded", "400"),
        ({"method": "PUT"}, "method_not_allowed", "405"),
    ],
)
async def test_the_metrics_of_a_refusal(
    guarded: Guarded, counted: Growth, call: dict[str, Any], reason: str, code: str
) -> None:
    route = "other" if "path" in call else CHAT
    key = "anonymous" if "body" in call else "-"

    def grown() -> tuple[float, float]:
        return counted("xuanyuan_rejections_total", reason=reason), counted(
            "xuanyuan_requests_total", route=route, key=key, code=code
        )

    grown()
    await Call(guarded(), **call).start().done()
    assert grown() == (1, 1)
