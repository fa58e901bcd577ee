"""A conversation with a running server: its history, one answer at a time, and the one-shot way of asking."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from serving.chat_client import Chunk, Server
from serving.errors import ServingError
from serving.log import log
from serving.terminal import paint, printable

Message = dict[str, str]


def clean(text: str) -> str:
    """`text` as the history keeps it: stripped, as in the family's demo, and without lone surrogates."""
    return text.encode("utf-8", "replace").decode().strip()


@dataclass
class Conversation:
    """The messages so far. `options` are the request's other fields: model, temperature, top_p, max_tokens, seed."""

    options: Mapping[str, str | int | float]
    system: str = ""
    turns: list[Message] = field(default_factory=list)

    def messages(self) -> list[Message]:
        """What is sent, and saved: the system text, if there is one, and the turns."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + self.turns

    def clear(self) -> None:
        """Start over. The system text stays, as in the family's demo, whose template brings it back."""
        self.turns.clear()


@dataclass
class Answer:
    """One answer as it grows. Times are seconds on the monotonic clock."""

    started: float
    text: str = ""
    first_token: float | None = None
    last_token: float | None = None
    tokens: int | None = None
    finish_reason: str | None = None
    error: ServingError | None = None
    interrupted: bool = False

    def add(self, chunk: Chunk, now: float) -> None:
        """Take in one chunk. The opening one, which names only the role, is no token."""
        if chunk.text:
            self.text += chunk.text
            self.first_token = self.first_token or now
            self.last_token = now
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.tokens = chunk.completion_tokens or self.tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of decoding: tokens after the first, over the time they took. None where too little is known."""
        if not self.tokens or self.tokens < 2 or not self.first_token or not self.last_token:
            return None
        seconds = self.last_token - self.first_token
        return (self.tokens - 1) / seconds if seconds > 0 else None

    def statistics(self) -> str:
        """One line for people, such as "first token 0.21 s, 35.2 tokens/s, 87 tokens"."""
        parts = []
        if self.first_token:
            parts.append(f"first token {self.first_token - self.started:.2f} s")
        if speed := self.tokens_per_second:
            parts.append(f"{speed:.1f} tokens/s")
        if self.tokens:
            parts.append(f"{self.tokens} token{'s' if self.tokens > 1 else ''}")
        if self.finish_reason == "length":
            parts.append("cut off at the length limit (--max-tokens, or the context)")
        if self.interrupted:
            parts.append("stopped by Ctrl-C")
        return ", ".join(parts) or "no tokens"


def ask(server: Server, conversation: Conversation, question: str, show: Callable[[str], None]) -> Answer:
    """Ask, hand the answer to `show` piece by piece, and keep both in the history.

    Ctrl-C and errors end the answer, not the conversation: what came until then is kept. If nothing came, the question
    is not kept either, so that roles go on alternating. The shown pieces join to the stripped answer.
    """
    asked = [*conversation.turns, {"role": "user", "content": clean(question)}]
    request = Conversation(conversation.options, conversation.system, asked)
    answer = Answer(time.monotonic())
    shown = 0
    try:
        with closing(server.chat({**request.options, "messages": request.messages()})) as chunks:
            for chunk in chunks:
                answer.add(chunk, time.monotonic())
                # White space at the end waits: it counts only if more text follows.
                text = clean(answer.text)
                show(text[shown:])
                shown = len(text)
    except KeyboardInterrupt:
        answer.interrupted = True
    except ServingError as error:
        answer.error = error
    if text := clean(answer.text):
        conversation.turns = [*asked, {"role": "assistant", "content": text}]
    return answer


def show(text: str) -> None:
    """Print a piece of an answer at once; a terminal gets only what cannot drive it."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def once(server: Server, conversation: Conversation, question: str) -> int:
    """Ask one question: the answer alone on stdout, statistics on stderr. The exit code: 0, or 130 after Ctrl-C."""
    answer = ask(server, conversation, question, show)
    show("\n" if answer.text else "")
    if answer.error:
        raise answer.error
    log(paint(answer.statistics(), "dim", sys.stderr))
    return 130 if answer.interrupted else 0
