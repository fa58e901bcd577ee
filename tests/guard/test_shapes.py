"""Bodies on which the engine would fail instead of refusing them."""

import json

import pytest

from tests.guard.conftest import Guarded
from tests.guard.stub import CHAT, Call, Engine

pytestmark = pytest.mark.anyio
RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"structured_outputs": -1}, "structured_outputs"),
        ("/v1/completions", {"structured_outputs": ["json"]}, "structured_outputs"),
        (RESPONSES, {"input": [USER, "Hi"]}, "input[1]"),
        (RESPONSES, {"input": [{"type": "program", "code": ""}]}, "input[0].type"),
        (RESPONSES, {"input": [{"type": "web_search_call", "action": {}}]}, "input[0].type"),
        (RESPONSES, {"input": [{"type": None, **USER}]}, "input[0].type"),
        (RESPONSES, {"input": [{"content": "Hi"}]}, "input[0].role"),
        (RESPONSES, {"input": [{"role": "assistant", "content": []}]}, "input[0].content"),
        (RESPONSES, {"input": [{"role": "assistant", "content": ["Hi"]}]}, "input[0].content"),
        (RESPONSES, {"input": [{"role": "assistant", "content": [{"type": "refusal"}]}]}, "input[0].content"),
        (RESPONSES, {"input": [{"type": "reasoning", "summary": "x"}]}, "input[0].summary"),
        (RESPONSES, {"input": [{"type": "function_call", "name": "f", "call_id": "1"}]}, "input[0].arguments"),
        (RESPONSES, {"input": [{"type": "reasoning", "summary": [1]}]}, "input[0].summary"),
        (RESPONSES, {"input": [{"type": "reasoning", "summary": [], "content": "x"}]}, "input[0].content"),
        (RESPONSES, {"input": [{"type": "reasoning", "summary": None}]}, "input[0].summary"),
        (MESSAGES, {"messages": [{"content": [{"content": [{"source": 1}]}]}]}, "messages[0].content.content.source"),
        (CHAT, {"messages": [{"role": "tool", "content": [{"input_audio": 1}]}]}, "messages[0].content.input_audio"),
        (CHAT, {"messages": [{"content": [{"image_url": {"url": [1]}}]}]}, "messages[0].content.image_url"),
    ],
)
async def test_what_the_engine_cannot_read_is_refused(
    guarded: Guarded, engine: Engine, path: str, body: dict[str, object], param: str
) -> None:
    call = await Call(guarded(), path=path, body=json.dumps(body).encode()).start().done()
    assert (call.status, call.error["code"], call.error["param"]) == (400, "invalid_value", param)
    assert engine.bodies == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"structured_outputs": None}),
        (CHAT, {"structured_outputs": {"choice": ["a"]}}),
        (CHAT, {"input": [1]}),
        (RESPONSES, {"input": "Hi"}),
        (RESPONSES, {"input": [USER, {"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}]}),
        (RESPONSES, {"input": [{"type": "function_call", "name": "f", "call_id": "1", "arguments": "{}"}]}),
        (RESPONSES, {"input": [{"type": "function_call_output"}, {"type": "reasoning", "summary": []}]}),
        (CHAT, {"messages": [USER, "x", {"content": ["x", {"image_url": "a", "audio_url": {"url": "b"}}]}]}),
    ],
)
async def test_everything_else_passes(guarded: Guarded, engine: Engine, path: str, body: dict[str, object]) -> None:
    assert (await Call(guarded(), path=path, body=json.dumps(body).encode()).start().done()).status == 200
    assert len(engine.bodies) == 1


@pytest.mark.parametrize(
    ("number", "status"),
    [
        ("9223372036854775807", 200),
        ("-9223372036854775808", 200),
        ("9223372036854775808", 400),
        ("-9223372036854775809", 400),
        ("1" + "0" * 5000, 400),
    ],
    ids=["largest", "least", "too large", "too small", "huge"],
)
async def test_whole_numbers_have_64_bits(guarded: Guarded, number: str, status: int) -> None:
    call = await Call(guarded(), path=CHAT, body=b'{"seed": %s}' % number.encode()).start().done()
    assert call.status == status
    assert status == 200 or call.error["code"] == "invalid_json"


async def test_digits_in_a_text_are_no_number(guarded: Guarded) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "9" * 400}], "seed": 1}).encode()
    assert (await Call(guarded(), path=CHAT, body=body).start().done()).status == 200
