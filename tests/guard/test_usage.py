"""Token counts and the ends of streams, read from bytes that may be cut anywhere."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.routes import DONE, MESSAGES_END, RESPONSES_BEGIN, RESPONSES_END
from serving.guard.usage import Document, EventStream, Usage, find_usage
from tests.guard.stub import EVENTS

CHAT_STREAM = b": keep-alive\n\n" + b"".join(EVENTS)
RESPONSES_STREAM = (
    b'event: response.created\ndata: {"response":{"tools":[{"usage":{"input_tokens":1}}],"usage":null}}\n\n'
    b'event: response.output_text.delta\ndata: {"delta":"Hi"}\n\n'
    b'event: response.completed\ndata: {"response":{"usage":{"input_tokens":7,"output_tokens":5}}}\n\n'
)
MESSAGES_STREAM = (
    b'event: message_start\ndata: {"message":{"usage":{"input_tokens":7,"output_tokens":0}}}\n\n'
    b'event: content_block_delta\ndata: {"delta":{"text":"Hi"}}\n\n'
    b'event: message_delta\ndata: {"usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":5}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
STREAMS = [(CHAT_STREAM, DONE), (RESPONSES_STREAM, RESPONSES_END), (MESSAGES_STREAM, MESSAGES_END)]


def feed(watched: EventStream | Document, text: bytes, cuts: list[int]) -> None:
    """Feed a text cut at these places."""
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(places):
        watched.feed(text[start:end])


@pytest.mark.parametrize(("text", "stream_end"), STREAMS)
@given(cuts=st.lists(st.integers(0, 1000)))
def test_where_a_stream_is_cut_makes_no_difference(text: bytes, stream_end: tuple[bytes, ...], cuts: list[int]) -> None:
    stream = EventStream(stream_end)
    feed(stream, text, cuts)
    assert (stream.usage(), stream.finished, stream.pending) == (Usage(7, 5), True, b"")


@pytest.mark.parametrize(("text", "stream_end"), STREAMS)
@given(data=st.data())
def test_a_stream_is_finished_only_by_its_last_event(
    text: bytes, stream_end: tuple[bytes, ...], data: st.DataObject
) -> None:
    stream = EventStream(stream_end)
    stream.feed(text[: data.draw(st.integers(0, len(text) - 1))])
    assert not stream.finished


@given(
    chunks=st.lists(st.binary(max_size=20) | st.sampled_from([b"\n", b"\n\n", b'"usage":', b'{"a"', b"data: [DONE]"]))
)
def test_garbage_is_no_trouble(chunks: list[bytes]) -> None:
    stream, document = EventStream(DONE), Document()
    for chunk in chunks:
        stream.feed(chunk)
        document.feed(chunk)
    assert stream.usage().total >= 0 and document.usage().total >= 0


def test_a_stream_that_stops_without_a_count_is_charged_an_event_a_token() -> None:
    stream = EventStream(DONE)
    stream.feed(EVENTS[0] + b": keep-alive\n\n" + EVENTS[1] * 3)
    assert stream.usage() == Usage(0, 4)


def test_what_comes_before_any_token_is_no_token() -> None:
    stream = EventStream(RESPONSES_END, RESPONSES_BEGIN)
    first, delta, *_ = RESPONSES_STREAM.split(b"\n\n")
    stream.feed(b": keep-alive\n\n" + first + b"\n\nevent: response.in_progress\ndata: {}\n\n")
    assert stream.events == 0
    stream.feed(delta + b"\n\n")
    assert stream.events == 1


def test_a_count_that_goes_along_is_believed_up_to_where_the_stream_stops() -> None:
    stream = EventStream(DONE)
    for tokens in range(1, 50):
        stream.feed(b'data: {"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n' % (tokens * 2))
    assert stream.usage() == Usage(7, 98)


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        (b"", None),
        (b'{"usage":null}', None),
        (b'{"usage":{', None),
        (b'{"usage":{"prompt_tokens":true}}', Usage(0, 0)),
        (b'{"usage":{"prompt_tokens":-5,"completion_tokens":"9"}}', Usage(0, 0)),
        (b'{"usage":{}}', Usage(0, 0)),
        (b'{"usage": {"prompt_tokens": 3, "completion_tokens": null}}', Usage(3, 0)),
        (b'{"tools":[{"usage":{"prompt_tokens":9}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}', Usage(3, 4)),
        (b'{"usage":' * 100_000, None),
    ],
)
def test_documents(text: bytes, usage: Usage | None) -> None:
    assert find_usage(text) == usage


@given(text=st.text(), nested=st.integers(0, 3))
def test_what_the_model_writes_is_never_taken_for_a_count(text: str, nested: int) -> None:
    content = json.dumps({"usage": {"prompt_tokens": 999, "completion_tokens": 999}}, separators=(",", ":")) + text
    for _ in range(nested):
        content = json.dumps(content)
    document = json.dumps({"choices": [{"message": {"content": content}}]}, separators=(",", ":"))
    assert find_usage(document.encode()) is None
