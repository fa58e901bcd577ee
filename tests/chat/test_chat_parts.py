"""The parts of `xuanyuan chat` by themselves: events, text, statistics, history."""

import pytest

from serving.chat import Answer, Conversation, clean
from serving.chat_client import Chunk
from serving.sse import Event, events
from serving.terminal import has_colour, printable

STREAM = (
    'data: {"a": "轩辕🙂"}\r\n\r\n: ping\n\nevent: error\ndata: one\ndata:two\n\rid: 7\rdata: three\r\rdata: lost'
).encode()
EVENTS = [Event("message", '{"a": "轩辕🙂"}'), Event("error", "one\ntwo"), Event("message", "three")]


@pytest.mark.parametrize("size", range(1, 12))
def test_events_do_not_depend_on_where_the_chunks_are_cut(size: int) -> None:
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert list(events(pieces)) == EVENTS


def test_clean_strips_and_leaves_no_half_character() -> None:
    assert clean("  \u3000你好\ud83d \n") == "你好?"


def test_printable_keeps_lines_and_tabs() -> None:
    assert printable("a\tb\r\nc\x00\x7f") == "a\tb\nc␀␡"


@pytest.mark.parametrize(
    ("is_a_terminal", "environ", "expected"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_has_colour(is_a_terminal: bool, environ: dict[str, str], expected: bool) -> None:
    class Stream:
        def isatty(self) -> bool:
            return is_a_terminal

    assert has_colour(Stream(), environ) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], "no tokens"),
        (
            [(1, Chunk("")), (2, Chunk("a")), (4, Chunk("b")), (5, Chunk("", "stop", 5))],
            "first token 2.00 s, 2.0 tokens/s, 5 tokens",
        ),
        ([(2, Chunk("a")), (2, Chunk("", "stop", 1))], "first token 2.00 s, 1 token"),
        ([(2, Chunk("a")), (3, Chunk("b"))], "first token 2.00 s"),
        (
            [(2, Chunk("a", "length", 1))],
            "first token 2.00 s, 1 token, cut off at the length limit (--max-tokens, or the context)",
        ),
    ],
)
def test_statistics(chunks: list[tuple[float, Chunk]], expected: str) -> None:
    grown = Answer(started=0.0)
    for now, chunk in chunks:
        grown.add(chunk, now)
    assert grown.statistics() == expected


def test_clear_keeps_the_system_message() -> None:
    conversation = Conversation({}, "s", [{"role": "user", "content": "q"}])
    conversation.clear()
    assert conversation.messages() == [{"role": "system", "content": "s"}]
