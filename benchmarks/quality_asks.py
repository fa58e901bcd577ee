"""What is asked of each form of a model, and what it answers: numbers alone, to be compared in quality_gate.py.

Texts of known content go through /v1/completions with `echo` and `logprobs`, which gives the log probability of each of
their tokens and the token that the model itself would have put there. Questions go through /v1/chat/completions.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.choices import LETTERS, Choice, prompt
from benchmarks.client import TIMEOUT_S, Server
from benchmarks.console import BenchmarkError, log
from benchmarks.workload import CHAT, COMPLETIONS, DATA, read_jsonl

# Tokens among which a letter is looked for; servers often allow no more.
CANDIDATES = 20
PROGRESS_S = 10.0


@dataclass(frozen=True)
class Passage:
    """A text that was read: the sum of -ln p over its tokens but the first, and the likeliest token at each place."""

    language: str
    loss: float
    tokens: tuple[str, ...]
    likeliest: tuple[str, ...]


@dataclass(frozen=True)
class Reply:
    """A greedy answer: its length in tokens, and whether it ended by itself."""

    tokens: int
    stopped: bool


@dataclass(frozen=True)
class Sample:
    """All that one form of the model said. `right`: of each multiple-choice question, by subject."""

    passages: Sequence[Passage]
    replies: Sequence[Reply]
    right: Mapping[str, Sequence[bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """What is asked: the same of every form."""

    passages: Sequence[tuple[str, str]]
    questions: Sequence[str]
    max_tokens: int
    choices: Mapping[str, Sequence[Choice]]
    shots: int
    concurrency: int


def passages() -> list[tuple[str, str]]:
    """(language, text) for each finance topic: what is known of it, and what is asked about it."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for kind, column in (("finance_replies", "sentence"), ("finance_questions", "question")):
        for row in read_jsonl(DATA / f"{kind}.jsonl"):
            found.setdefault((kind, row["topic"], row["language"]), []).append(row[column])
    return [(language, ("" if language == "zh" else " ").join(texts)) for (_, _, language), texts in found.items()]


def questions(count: int, seed: int) -> list[str]:
    """Finance questions in a seeded order, half of them Chinese, half English."""
    rows = read_jsonl(DATA / "finance_questions.jsonl")
    halves = [[row["question"] for row in rows if row["language"] == language] for language in ("zh", "en")]
    generator = random.Random(seed)
    for half in halves:
        generator.shuffle(half)
    return [question for pair in zip(*halves, strict=True) for question in pair][:count]


async def sit(server: Server, model: str, exam: Exam) -> Sample:
    """Ask one server everything. Raises BenchmarkError for an answer that is none."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(headers=server.headers, timeout=timeout) as session:
        asker = Asker(session, server.url, model, exam.concurrency)
        read = await asker.all("texts", COMPLETIONS, [reading(text) for _, text in exam.passages])
        told = await asker.all("answers", CHAT, [asking(question, exam.max_tokens) for question in exam.questions])
        right = {}
        for name, choices in exam.choices.items():
            shots, scored = choices[: exam.shots], choices[exam.shots :]
            bodies = [choosing(prompt(choice, shots)) for choice in scored]
            letters = [letter(answer) for answer in await asker.all(name, COMPLETIONS, bodies)]
            right[name] = [found == choice.answer for found, choice in zip(letters, scored, strict=True)]
    languages = [language for language, _ in exam.passages]
    return Sample(
        [passage(language, answer) for language, answer in zip(languages, read, strict=True)],
        [reply(answer) for answer in told],
        right,
    )


class Asker:
    """Sends requests to one server, some at a time, and says how far it is."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, concurrency: int) -> None:
        self.session, self.url, self.model = session, url, model
        self.gate = asyncio.Semaphore(concurrency)

    async def all(self, what: str, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The answers, in order. Raises BenchmarkError for the first that is an error."""
        progress = Progress(what, len(bodies))

        async def one(body: Mapping[str, Any]) -> dict[str, Any]:
            async with self.gate:
                answer = await self.post(path, {"model": self.model, "temperature": 0, **body})
            progress.count()
            return answer

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(body)) for body in bodies]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One answer. Raises BenchmarkError with the server's own words."""
        try:
            async with self.session.post(self.url + path, json=body) as response:
                text = await response.text()
                if response.status != 200:
                    raise BenchmarkError(f"{self.url}{path} answered {response.status}: {text[:300]}")
                return dict(json.loads(text))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise BenchmarkError(f"{self.url}{path}: {type(error).__name__}: {error}") from error


class Progress:
    """Says every ten seconds how many are done, and how long the rest will take."""

    def __init__(self, what: str, of: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self.of, self.clock = what, of, clock
        self.done = 0
        self.started = self.said = clock()

    def count(self) -> None:
        """One more."""
        self.done += 1
        now = self.clock()
        if now - self.said >= PROGRESS_S and self.done < self.of:
            self.said = now
            left = (now - self.started) / self.done * (self.of - self.done)
            log(f"  {self.what}: {self.done} of {self.of}, about {left:.0f} s left")


def reading(text: str) -> dict[str, Any]:
    """A request that has a text read. Tokens are named by their ids, as several may have the same text."""
    return {"prompt": text, "max_tokens": 1, "echo": True, "logprobs": 1, "return_tokens_as_token_ids": True}


def asking(question: str, max_tokens: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens}


def choosing(text: str) -> dict[str, Any]:
    return {"prompt": text, "max_tokens": 1, "logprobs": CANDIDATES}


def passage(language: str, answer: Mapping[str, Any]) -> Passage:
    """What the server says of a text. Raises BenchmarkError where it does not echo log probabilities."""
    try:
        found = answer["choices"][0]["logprobs"]
        count = answer["usage"]["prompt_tokens"]
        tokens, values, tops = (found[name][1:count] for name in ("tokens", "token_logprobs", "top_logprobs"))
        likeliest = tuple(max(top, key=top.__getitem__) for top in tops)
        loss = -sum(values)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise BenchmarkError(f"the server does not give log probabilities of a prompt (echo): {error!r}") from error
    if not len(tokens) == len(values) == len(likeliest) > 0:
        raise BenchmarkError(f"the server counts {count} tokens in a prompt and gives {len(values)} log probabilities")
    return Passage(language, loss, tuple(tokens), likeliest)


def reply(answer: Mapping[str, Any]) -> Reply:
    """How an answer ended. Raises BenchmarkError where the server does not say."""
    try:
        return Reply(int(answer["usage"]["completion_tokens"]), answer["choices"][0]["finish_reason"] == "stop")
    except (KeyError, IndexError, TypeError) as error:
        raise BenchmarkError(f"an answer without usage or finish_reason: {error!r}") from error


def letter(answer: Mapping[str, Any]) -> str:
    """The likeliest letter as the next token; '' if none is among the candidates."""
    try:
        (top,) = answer["choices"][0]["logprobs"]["top_logprobs"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BenchmarkError(f"an answer without log probabilities: {error!r}") from error
    scores = {text: value for text, value in top.items() if text.strip() in LETTERS}
    return max(scores, key=scores.__getitem__).strip() if scores else ""
