"""The text of an answer: the separator's space, and the user's next turn that the model begins itself."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_template.stop import ReplyText

# Raw answer, what the client gets, whether it was cut.
ANSWERS = [
    ("", "", False),
    (" Hello", "Hello", False),
    ("Hello", "Hello", False),
    ("  Hello", " Hello", False),
    ("\n Hello", "\n Hello", False),
    (" 你好", "你好", False),
    (" A.\nHuman: next", "A.", True),
    (" A.\n\nHuman:", "A.\n", True),
    (" A.</s>Human: next", "A.", True),
    (" A.\nHuman", "A.\nHuman", False),
    (" A.\nHumans: we are", "A.\nHumans: we are", False),
    (" A.\n", "A.\n", False),
    (" The label Human: marks a turn", "The label Human: marks a turn", False),
    (" (Human: a role)", "(Human: a role)", False),
    (" A.\n Human: indented", "A.\n Human: indented", False),
    (" A.\nHuman： full-width", "A.\nHuman： full-width", False),
    (" Human: and on", "", True),
    ("Human: and on", "", True),
    (" Human", "Human", False),
    (" a < b </", "a < b </", False),
]


def reply(pieces: list[str], *, starts_turn: bool = True) -> tuple[list[str], bool]:
    """What is given back for each piece, and at the end."""
    text = ReplyText(starts_turn=starts_turn)
    given_back = [text.feed(piece) for piece in pieces]
    return [*given_back, text.finish()], text.stopped


@pytest.mark.parametrize(("raw", "expected", "stopped"), ANSWERS)
def test_whole_and_character_by_character(raw: str, expected: str, stopped: bool) -> None:
    for pieces in ([raw], list(raw)):
        given_back, was_stopped = reply(pieces)
        assert ("".join(given_back), was_stopped) == (expected, stopped)


@given(
    st.lists(st.sampled_from(["\n", "Human", ":", "</s>", " ", "a", "Hu", "man", "</", "s>"])).map("".join),
    st.lists(st.integers(0, 60)),
    st.booleans(),
)
def test_how_the_text_is_split_does_not_matter(raw: str, cuts: list[int], starts_turn: bool) -> None:
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    split, split_stopped = reply([raw[a:b] for a, b in pairwise(edges)], starts_turn=starts_turn)
    whole, whole_stopped = reply([raw], starts_turn=starts_turn)
    assert ("".join(split), split_stopped) == ("".join(whole), whole_stopped)


def test_text_is_held_back_only_while_it_may_become_a_turn_start() -> None:
    given_back, _ = reply([" A", " word", ".", "\nHu", "man", " life", "\n", "</", "b"])
    assert given_back == ["A", " word", ".", "", "", "\nHuman life", "", "\n", "</b", ""]


def test_a_continued_answer_keeps_its_first_space() -> None:
    assert reply([" world"], starts_turn=False) == ([" world", ""], False)
    assert reply(["Human: kept"], starts_turn=False) == (["Human: kept", ""], False)
    assert reply(["\nHuman: cut"], starts_turn=False) == (["", ""], True)


def test_nothing_comes_after_the_stop() -> None:
    assert reply([" A\nHuman:", " more", " and more"]) == (["A", "", "", ""], True)
