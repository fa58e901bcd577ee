"""The parser, on byte streams cut at every place that a network can cut them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.sse import Read, parse

STREAMS = Path(__file__).parent / "streams"

CHAT = (
    'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    'data: {"choices":[{"index":0,"delta":{"content":"市盈率"},"finish_reason":null}]}\n\n'
    'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n'
    'data: {"choices":[{"index":0,"delta":{"content":" 😀"},"finish_reason":"stop"}]}\n\n'
    'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
    "data: [DONE]\n\n"
).encode()
COMPLETION = (
    b'data: {"choices":[{"index":0,"text":"a"}]}\n\ndata: {"choices":[{"text":"b","finish_reason":"length"}]}\n\n'
)


def reads(stream: bytes, cuts: list[int]) -> list[Read]:
    """The stream as socket reads that end at `cuts`; the n-th read comes at n ns."""
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [(at, stream[edges[at] : edges[at + 1]]) for at in range(len(edges) - 1)]


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_cuts_change_nothing_but_times(cuts: list[int]) -> None:
    answer = parse(reads(CHAT, cuts))
    assert [text for _, text, _ in answer.pieces] == ["市盈率", "", " 😀"]
    assert (answer.input_tokens, answer.output_tokens) == (7, 3)
    assert (answer.finish_reason, answer.done, answer.error) == ("stop", True, "")


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_an_event_has_the_time_of_the_read_that_completed_it(cuts: list[int]) -> None:
    whole = reads(CHAT, cuts)
    ends = [place + 2 for place in range(len(CHAT)) if CHAT[place : place + 2] == b"\n\n"]
    reached, times = 0, []
    for at, chunk in whole:
        times += [at] * sum(reached < end <= reached + len(chunk) for end in ends)
        reached += len(chunk)
    assert [at for at, _, _ in parse(whole).pieces] == times[1:4]


@pytest.mark.parametrize("file", sorted(STREAMS.iterdir()), ids=lambda file: file.stem)
@given(cuts=st.lists(st.integers(0, 100_000), max_size=40))
def test_recorded_streams(file: Path, cuts: list[int]) -> None:
    """Bytes as servers sent them; beside each stream, what they were asked for and sent."""
    expected = json.loads((STREAMS / "expected.json").read_text(encoding="utf-8")).get(file.name)
    if expected is None:
        assert file.name == "expected.json"
        return
    answer = parse(reads(file.read_bytes(), cuts))
    assert answer.complete and not answer.error
    assert answer.text == expected["text"]
    assert (answer.input_tokens, answer.output_tokens) == (expected["input_tokens"], expected["output_tokens"])
    assert len(answer.pieces) == expected["pieces"]


def test_coalesced_events_come_at_once() -> None:
    assert [at for at, _, _ in parse([(5, CHAT)]).pieces] == [5, 5, 5]


def test_a_completion_without_done_is_complete() -> None:
    answer = parse([(1, COMPLETION)])
    assert (answer.text, answer.done, answer.complete) == ("ab", False, True)


def test_done_without_its_blank_line() -> None:
    assert parse([(1, COMPLETION + b"data: [DONE]")]).done


def test_carriage_returns_comments_and_other_fields() -> None:
    stream = b": ping\r\n\r\nevent: message\r\nid: 1\r\ndata:" + b'{"choices":[{"text":"x"}]}\r\n\r\n'
    assert parse([(1, stream)]).pieces == [(1, "x", 0)]


def test_data_over_several_lines_is_one_event() -> None:
    assert parse([(1, b'data: {"choices":\ndata: [{"text":"x"}]}\n\n')]).text == "x"


@pytest.mark.parametrize("cut", range(1, COMPLETION.index(b"\n\n") - 1))
def test_a_stream_cut_within_an_event_is_not_complete(cut: int) -> None:
    answer = parse([(1, COMPLETION[:cut])])
    assert not answer.complete and not answer.pieces


def test_a_stream_cut_between_events_is_not_complete() -> None:
    answer = parse([(1, COMPLETION[: COMPLETION.index(b"\n\n") + 2])])
    assert answer.text == "a" and not answer.complete and not answer.error


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (b'{"error": {"message": "engine is dead", "code": 500}}', "engine is dead"),
        (b'{"error": "too long"}', "too long"),
        (b'{"object": "error", "error": {"code": 500}}', "{'code': 500}"),
    ],
)
def test_an_error_event_is_told(event: bytes, error: str) -> None:
    assert parse([(1, COMPLETION), (2, b"data: " + event + b"\n\n")]).error == error


def test_reasoning_counts_as_content() -> None:
    assert parse([(1, b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n')]).pieces == [(1, "hm", 0)]
