"""Clients that ask without pause and check every answer."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PROMPTS = tuple(f"{number} and {number + 1} are" for number in range(8))
HANG_SECONDS = 60.0
# How a request can end. An answer that is complete but not the right one is the worst.
GOOD, WRONG, TOLD, BROKEN, HUNG = "good", "wrong", "told", "broken", "hung"


@dataclass(frozen=True)
class Outcome:
    """One request: when it began and ended (monotonic seconds), how, and what the client was told."""

    began: float
    ended: float
    kind: str
    words: str = ""


@dataclass
class Load:
    """`clients` at a time, half of them streaming. `expected`: the greedy answer to each prompt."""

    url: str
    model: str
    clients: int = 20
    tokens: int = 24
    expected: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    async def learn(self) -> None:
        """Ask every prompt once, alone."""
        async with session() as http:
            for prompt in PROMPTS:
                async with http.post(f"{self.url}/v1/completions", json=self.body(prompt, False)) as answer:
                    assert answer.status == 200, await answer.text()
                    self.expected[prompt] = (await answer.json())["choices"][0]["text"]

    def body(self, prompt: str, stream: bool) -> dict[str, Any]:
        return {
            "model": self.model, "prompt": prompt, "max_tokens": self.tokens, "temperature": 0, "ignore_eos": True,
            "stream": stream,
        }  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Load"]:
        """The clients ask while the block runs; at its end each finishes its request."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self.client(number, stop)) for number in range(self.clients)]
        try:
            yield self
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def client(self, number: int, stop: asyncio.Event) -> None:
        """One client. After an error it waits a moment, as clients do."""
        turn = number
        async with session() as http:
            while not stop.is_set():
                outcome = await self.ask(http, PROMPTS[turn % len(PROMPTS)], stream=number % 2 == 0)
                self.outcomes.append(outcome)
                turn += 1
                if outcome.kind != GOOD:
                    await asyncio.sleep(0.2)

    async def ask(self, http: aiohttp.ClientSession, prompt: str, *, stream: bool) -> Outcome:
        """One request, checked."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(HANG_SECONDS):
                async with http.post(f"{self.url}/v1/completions", json=self.body(prompt, stream)) as answer:
                    text = (await answer.read()).decode()
                    kind, words = self.judge(answer.status, text, prompt, stream)
        except TimeoutError:
            kind, words = HUNG, ""
        except aiohttp.ClientError as error:
            kind, words = BROKEN, type(error).__name__
        return Outcome(began, time.monotonic(), kind, words)

    def judge(self, status: int, text: str, prompt: str, stream: bool) -> tuple[str, str]:
        """Good only if it is, token for token, what the prompt's answer is; told if an error says what happened."""
        if status != 200:
            return told(text, str(status))
        if not stream:
            got = json.loads(text)["choices"][0]["text"]
            return (GOOD, "") if got == self.expected[prompt] else (WRONG, got)
        events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        failed = next((event for event in events if event.startswith('{"error"')), None)
        if failed:
            return told(failed, "in the stream")
        if not events or events[-1] != "[DONE]":
            return BROKEN, "ended early"
        got = "".join(choice["text"] for event in events[:-1] for choice in json.loads(event)["choices"])
        return (GOOD, "") if got == self.expected[prompt] else (WRONG, got)

    def count(self, since: float = 0.0) -> Counter[str]:
        """How many requests that began after `since` ended how."""
        return Counter(outcome.kind for outcome in self.outcomes if outcome.began >= since)

    def failures(self) -> Counter[str]:
        """What those were told that got no answer."""
        return Counter(f"{outcome.kind} {outcome.words}" for outcome in self.outcomes if outcome.kind != GOOD)


def told(text: str, where: str) -> tuple[str, str]:
    """An error in OpenAI's form, or something that no client understands."""
    try:
        error = json.loads(text)["error"]
        return TOLD, f"{where} {error.get('code') or error['type']}"
    except (ValueError, KeyError, TypeError):
        return WRONG, f"{where} {text[:80]!r}"


def session() -> aiohttp.ClientSession:
    """A client with one connection at a time, which may be reused."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
