"""Read the event stream of an OpenAI-compatible server out of timestamped socket reads, after the load has ended."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Read = tuple[int, bytes]
"""When a socket read returned (perf_counter_ns), and what it returned."""


@dataclass
class Answer:
    """One streamed answer.

    `pieces` holds (time in ns, text, tokens so far) of each event that carries tokens; the text may be empty, since a
    token can be half a character or the end of the text. A first event that only names the role carries none.
    `input_tokens` and `output_tokens` are the server's own count, 0 where it gave none; it may count with every event.
    """

    pieces: list[tuple[int, str, int]] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str | None = None
    done: bool = False
    error: str = ""

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end: some servers leave `[DONE]` out, some the finish reason."""
        return self.done or self.finish_reason is not None

    @property
    def text(self) -> str:
        return "".join(text for _, text, _ in self.pieces)

    def take(self, at: int, data: bytes) -> None:
        """Add one event that came at `at`."""
        if data == b"[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            self.error = f"not JSON: {data[:80]!r}"
            return
        if failure := event.get("error"):
            self.error = str(failure.get("message", failure) if isinstance(failure, dict) else failure)
        if usage := event.get("usage"):
            self.input_tokens = usage.get("prompt_tokens") or self.input_tokens
            self.output_tokens = usage.get("completion_tokens") or self.output_tokens
        for choice in event.get("choices", [])[:1]:
            self.take_choice(at, choice)

    def take_choice(self, at: int, choice: dict[str, Any]) -> None:
        """Add the text of a chat or completion chunk."""
        delta = choice.get("delta") or choice
        text = (
            delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or delta.get("text") or ""
        )
        reason = choice.get("finish_reason")
        self.finish_reason = reason or self.finish_reason
        only_role = "role" in delta and not text and not reason
        if not only_role:
            self.pieces.append((at, text, self.output_tokens))


def events(reads: Iterable[Read]) -> Iterator[Read]:
    """(time, data) of each event. An event's time is that of the read that completed it.

    Lines are split as bytes, so that a character cut in two by the network is whole again before it is decoded. What is
    left without its blank line at the end is an event too: a server that was cut there is told by its broken JSON.
    """
    rest, lines, at = b"", [], 0
    for at, chunk in reads:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                lines.append(line[5:].removeprefix(b" "))
            elif not line and lines:
                yield at, b"\n".join(lines)
                lines = []
    if rest.startswith(b"data:"):
        lines.append(rest[5:].strip())
    if lines:
        yield at, b"\n".join(lines)


def parse(reads: Iterable[Read]) -> Answer:
    """The answer that the socket reads of one request make up."""
    answer = Answer()
    for at, data in events(reads):
        answer.take(at, data)
    return answer
