"""What a request's body may be, and how much it may ask for."""

import asyncio
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.ceilings import check
from serving.guard.refusal import Refusal
from serving.guard.settings import GuardSettings
from tests.guard.conftest import Guarded, make_guard
from tests.guard.stub import CHAT, Call, Engine, chat

pytestmark = pytest.mark.anyio
WITH_BODY = [
    CHAT,
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
]


@pytest.mark.parametrize("path", WITH_BODY)
async def test_the_engine_gets_the_bytes_that_were_sent(guarded: Guarded, engine: Engine, path: str) -> None:
    body = b' {"a" : 1, "\\u4e2d": "\xe4\xb8\xad", "a":2}\n'
    call = await Call(guarded(), path=path, body=body).start().done()
    assert call.status == 200
    assert engine.bodies == [body]


@pytest.mark.parametrize("path", WITH_BODY)
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"x"', "invalid_json"),
        (b"null", "invalid_json"),
        (b"{} {}", "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":-Infinity}', "invalid_json"),
        (b'{"a":1e999}', "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b'{"a":' + b"1" * 5000 + b"}", "invalid_json"),
        (b'{"a":"\\ud800"}', "invalid_json"),
        (b'{"\\uDFFF":1}', "invalid_json"),
        (b'{"a":"\x00"}', "invalid_json"),
        (b'\xef\xbb\xbf{"a":1}', "invalid_json"),
        ('{"a":1}'.encode("utf-16"), "invalid_json"),
        ('{"a":1}'.encode("utf-16-le"), "invalid_json"),
        ('{"a":1}'.encode("utf-32"), "invalid_json"),
        (b'{"a":' + b"[" * 100_000 + b"}", "json_too_large"),
        (b'{"a":' + b"[" * 33 + b"]" * 33 + b"}", "json_too_deep"),
        (b'{"a":[' + b"1," * 70_000 + b"1]}", "json_too_large"),
        (b'{"a":"' + b"x" * (1 << 20) + b'"}', "body_too_large"),
    ],
)
async def test_what_is_no_good_json_never_reaches_the_engine(
    guarded: Guarded, engine: Engine, path: str, body: bytes, code: str
) -> None:
    call = await Call(guarded(), path=path, body=body).start().done()
    assert (call.status, call.error["code"]) == (413 if code == "body_too_large" else 400, code)
    assert engine.bodies == []


async def test_an_emoji_in_surrogate_pairs_is_text(guarded: Guarded, engine: Engine) -> None:
    call = await Call(guarded(), body=b'{"messages":[{"content":"\\ud83d\\ude00"}]}').start().done()
    assert call.status == 200


@given(body=st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0dDaAeE1.-+ ', max_size=60).map(str.encode))
async def test_garbage_is_refused_as_such(body: bytes) -> None:
    """Whatever comes, the guard parses it like the engine would or refuses it with 400."""
    engine = Engine()
    call = await Call(make_guard(engine), body=body).start().done()
    if call.status == 200:
        assert isinstance(json.loads(body), dict)
    else:
        assert call.status == 400


async def test_the_size_that_is_announced_is_believed_before_a_byte_is_read(guarded: Guarded) -> None:
    guard = guarded(max_body_bytes=100)
    call = await Call(guard, headers={"content-length": "101"}).start(send_body=False).done()
    assert (call.status, call.answer["connection"]) == (413, "close")


async def test_a_body_in_chunks_is_stopped_at_the_limit(guarded: Guarded, engine: Engine) -> None:
    call = Call(guarded(max_body_bytes=100)).start(send_body=False)
    for _ in range(3):
        call.inbox.put_nowait({"type": "http.request", "body": b"x" * 50, "more_body": True})
    await call.done()
    assert (call.status, call.error["code"]) == (413, "body_too_large")
    assert engine.bodies == []


@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
async def test_a_body_in_chunks_arrives_whole(guarded: Guarded, engine: Engine, pieces: int) -> None:
    body = chat(user="中文" * 200)
    call = Call(guarded(max_body_bytes=len(body))).start(send_body=False)
    cuts = [len(body) * index // pieces for index in range(pieces + 1)]
    for start, end in itertools.pairwise(cuts):
        call.inbox.put_nowait({"type": "http.request", "body": body[start:end], "more_body": end < len(body)})
    await call.done()
    assert call.status == 200
    assert engine.bodies == [body]


async def test_a_slow_sender_is_not_waited_for(guarded: Guarded, engine: Engine) -> None:
    call = Call(guarded(body_timeout=0.01)).start(send_body=False)
    call.inbox.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
    await call.done()
    assert (call.status, call.error["code"], call.answer["connection"]) == (408, "body_too_slow", "close")
    assert engine.scopes == []


async def test_a_sender_that_leaves_is_forgotten(guarded: Guarded, engine: Engine) -> None:
    call = Call(guarded()).start(send_body=False)
    call.inbox.put_nowait({"type": "http.request", "body": b"{", "more_body": True})
    call.leave()
    await call.done()
    assert engine.scopes == []


ALLOWED: list[dict[str, Any]] = [
    {},
    {"n": 32},
    {"n": None},
    {"n": "x"},
    {"n": 0},
    {"n": -1},
    {"max_tokens": 100},
    {"max_tokens": None},
    {"logprobs": True},
    {"logprobs": 20},
    {"top_logprobs": 20},
    {"prompt": ["a"] * 32},
    {"prompt": list(range(1000))},
    {"prompt": "a", "n": 32},
    {"logprob_token_ids": [1] * 20},
    {"max_tokens": "nan"},
    {"prompt": [[1, 2]] * 16, "n": 2},
    {"prompt": {}},
    {"n": {}},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 33}, "n"),
    ({"n": "33"}, "n"),
    ({"n": 33.0}, "n"),
    ({"n": 10**18}, "n"),
    ({"n": "1e999"}, "n"),
    ({"best_of": 33}, "best_of"),
    ({"max_tokens": 101}, "max_tokens"),
    ({"max_tokens": "101"}, "max_tokens"),
    ({"max_completion_tokens": 101}, "max_completion_tokens"),
    ({"max_output_tokens": 101}, "max_output_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 101}, "max_completion_tokens"),
    ({"logprobs": 21}, "logprobs"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"prompt_logprobs": 21}, "prompt_logprobs"),
    ({"prompt_logprobs": -1}, "prompt_logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"top_logprobs": "-1"}, "top_logprobs"),
    ({"logprob_token_ids": [1] * 21}, "logprob_token_ids"),
    ({"prompt": ["a"] * 33}, "prompt"),
    ({"prompt": [[1, 2]] * 17, "n": 2}, "prompt"),
    ({"prompt": [1, "a"] * 17}, "prompt"),
]


@pytest.mark.parametrize("fields", ALLOWED, ids=str)
async def test_what_may_be_asked(guarded: Guarded, fields: dict[str, Any]) -> None:
    call = await Call(guarded(max_tokens=100), body=chat(**fields)).start().done()
    assert call.status == 200


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[str(fields)[:40] for fields, _ in REFUSED])
async def test_what_may_not(guarded: Guarded, engine: Engine, fields: dict[str, Any], param: str) -> None:
    call = await Call(guarded(max_tokens=100), body=chat(**fields)).start().done()
    assert (call.status, call.error["code"], call.error["param"]) == (400, "limit_exceeded", param)
    assert engine.scopes == []


async def test_without_a_ceiling_the_context_is_the_limit(guarded: Guarded) -> None:
    assert (await Call(guarded(), body=chat(max_tokens=10**9)).start().done()).status == 200


async def test_the_ceilings_do_not_concern_what_generates_nothing(guarded: Guarded) -> None:
    call = await Call(guarded(), path="/tokenize", body=json.dumps({"prompt": "a", "n": 99}).encode()).start().done()
    assert call.status == 200


@pytest.mark.parametrize(
    ("fields", "sequences"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": 2, "best_of": 4}, 4),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"n": -5}, 1),
        ({"n": None}, 1),
    ],
)
async def test_how_many_answers_are_asked_for(fields: dict[str, Any], sequences: int) -> None:
    assert check(fields, GuardSettings()) == sequences


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x, max_size=3)
)
FIELDS = st.sampled_from(["n", "best_of", "max_tokens", "logprobs", "top_logprobs", "prompt", "logprob_token_ids"])


@given(document=st.dictionaries(FIELDS, JSON))
async def test_the_ceilings_take_any_values(document: dict[str, Any]) -> None:
    try:
        assert 1 <= check(document, GuardSettings(max_tokens=10)) <= 32
    except Refusal as refusal:
        assert refusal.param in document


async def test_the_client_is_heard_while_the_engine_works(guarded: Guarded, engine: Engine) -> None:
    """After the body the engine sees what the client does: its leave stops the work."""
    engine.gate = asyncio.Semaphore(0)
    call = Call(guarded(), body=chat()).start()
    while not engine.bodies:
        await asyncio.sleep(0)
    call.leave()
    await call.done()
    assert engine.disconnects == 1
