"""Reads what passes by: the end of an event stream, and the token counts that the engine puts into its answers.

Nothing is held back or changed. JSON inside strings cannot be taken for a count: there, quotes carry a backslash.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

USAGE = re.compile(rb'"usage":\s?(?=\{)')
DECODER = json.JSONDecoder()
# OpenAI's name, or Anthropic's three: its input_tokens leave out what came from or went to the cache.
PROMPT_NAMES = ("prompt_tokens", "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
COMPLETION_NAMES = ("completion_tokens", "output_tokens")
# How the engine's own errors begin in a stream, in which its last event may follow.
ERRORS = (b'data: {"error"', b"event: error")


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        """All tokens that a key pays for."""
        return self.prompt + self.completion


def find_usage(text: bytes) -> Usage | None:
    """The last usage object in an answer's JSON, under OpenAI's names or Anthropic's. None where there is none."""
    matches = list(USAGE.finditer(text))
    if not matches:
        return None
    try:
        found, _ = DECODER.raw_decode(text[matches[-1].end() :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return Usage(prompt=add_up(found, PROMPT_NAMES), completion=add_up(found, COMPLETION_NAMES))


def add_up(counts: dict[str, Any], names: tuple[str, ...]) -> int:
    """The sum of the counts of these names; what is missing or no count adds nothing."""
    return sum(count for name in names if type(count := counts.get(name)) is int and count > 0)


class EventStream:
    """Watches an event stream go by in chunks that may be split anywhere.

    `stream_end`: how its last event begins; `stream_begin`: how those begin that come before any token. Keeps one
    unfinished event and the last event with a usage, nothing more.
    """

    def __init__(self, stream_end: tuple[bytes, ...], stream_begin: tuple[bytes, ...] = ()) -> None:
        self.stream_end = stream_end
        self.skipped = (b":", *stream_begin)  # a comment only keeps the connection open
        self.pending = b""
        self.last_usage = b""
        self.events = 0
        self.finished = self.failed = False

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        *events, self.pending = (self.pending + chunk).split(b"\n\n")
        for event in events:
            if event.startswith(self.skipped):
                continue
            if event.startswith(self.stream_end):
                self.finished = True
            if event.startswith(ERRORS):
                self.failed = True
                continue
            self.events += 1
            if USAGE.search(event):
                self.last_usage = event

    def usage(self) -> Usage:
        """The last count that went by. A stream that was cut off before its count is charged an event a token."""
        found = find_usage(self.last_usage) or Usage(0, 0)
        return found if self.finished else Usage(found.prompt, max(found.completion, self.events))


class Document:
    """Watches an answer that is one JSON document. Keeps it: the engine has it in memory as a whole anyway."""

    finished = True
    failed = False
    pending = b""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    @property
    def events(self) -> int:
        """How many pieces of it have come."""
        return len(self.chunks)

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        self.chunks.append(chunk)

    def usage(self) -> Usage:
        """The count in the document."""
        return find_usage(b"".join(self.chunks)) or Usage(0, 0)
