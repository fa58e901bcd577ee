"""The look at a body before it is parsed: it agrees with the parser, and nothing upsets it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.guard.json_scan import measure

MANY = 1_000_000
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def depth(document: Any) -> int:
    """How deep a parsed document is."""
    if isinstance(document, dict):
        return 1 + max(map(depth, document.values()), default=0)
    return 1 + max(map(depth, document), default=0) if isinstance(document, list) else 0


def count(document: Any) -> int:
    """How many values it holds, itself included."""
    children = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return 1 + sum(map(count, children))


@given(document=DOCUMENTS, ascii_only=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_it_agrees_with_the_parser(document: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    found, values = measure(text, MANY)
    assert found == depth(document)
    assert count(document) <= values <= 2 * count(document)


@given(text=st.binary() | st.text(alphabet='[]{}",:\\ua1').map(str.encode), most=st.integers(1, 50))
def test_nothing_upsets_it(text: bytes, most: int) -> None:
    found, values = measure(text, most)
    assert found >= 0 and values >= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", 0),
        (b"1", 0),
        (b"[]", 1),
        (b"[" * 100_000, 100_000),
        (b'{"a":' * 5 + b"1" + b"}" * 5, 5),
        (b'"[[[["', 0),
        (b'["\\"[[["]', 1),
        (b'["\\\\",[[]]]', 3),
        (b'["\\\\\\"[[["]', 1),
        (b'["unfinished [[[', 1),
        (b"]]]][[", 0),
        ('{"中": ["文"]}'.encode(), 2),
    ],
)
def test_depths(text: bytes, expected: int) -> None:
    assert measure(text, MANY)[0] == expected


@pytest.mark.parametrize("text", [b"[],", b'"",', b"1,", b'{"a":1},', b"[1,2],"])
def test_a_text_of_too_many_values_is_left_alone(text: bytes) -> None:
    depth_, values = measure(b"[" + text * 1000 + b"]", 100)
    assert (depth_, values > 100) == (0, True)
