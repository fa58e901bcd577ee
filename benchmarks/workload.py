"""What is asked: seeded prompts with known lengths, made and serialized before the load begins."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.client import Call
from benchmarks.console import BenchmarkError

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
DATA = Path(__file__).parent / "data"
PREFIX_SHARE = 0.75
# Token ids to draw from: ordinary text in the family's vocabulary (39,438 ids), clear of the special ids at its start.
FIRST_ID, LAST_ID = 1_000, 30_000
# Length of an answer to a finance question. The family's own code stops at 256 new tokens.
ANSWER_MEDIAN, ANSWER_SIGMA, ANSWER_FEWEST, ANSWER_MOST = 150, 0.7, 16, 256
MORE_TURNS = 0.55
MOST_TURNS = 5
# A reply in the history, in characters, so that five turns stay within the family's context of 2,048 tokens.
REPLY_CHARACTERS = {"zh": 160, "en": 420}


@dataclass(frozen=True)
class Question:
    """One request before it is bound to a server: token ids or a text to complete, or messages of a chat."""

    content: list[int] | str | list[dict[str, str]]
    output_tokens: int

    @property
    def is_chat(self) -> bool:
        return isinstance(self.content, list) and isinstance(self.content[0], dict)

    @property
    def input_tokens(self) -> int | None:
        """Known beforehand only where the prompt is given as token ids."""
        return len(self.content) if isinstance(self.content, list) and not self.is_chat else None

    def call(self, model: str, *, ignore_eos: bool) -> Call:
        """The request as bytes: greedy, streamed, with the server's token counts at the end."""
        body: dict[str, Any] = {
            "model": model,
            "messages" if self.is_chat else "prompt": self.content,
            "max_tokens": self.output_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if ignore_eos:
            body["ignore_eos"] = True
        data = json.dumps(body, ensure_ascii=False).encode()
        path = CHAT if self.is_chat else COMPLETIONS
        return Call(path, data, self.input_tokens, self.output_tokens if ignore_eos else None)


def out_of_step(questions: Sequence[Question], places: int) -> list[Question]:
    """The same, the first `places` with answers of evenly spread lengths: those with which a closed loop begins.

    Where all answers are of one length it would else stay in step for ever: all prompts are computed in one step, all
    tokens in the next ones. What arrives by itself never is, and a prompt among others' tokens takes longer to compute.
    """
    return [
        replace(each, output_tokens=max(1, each.output_tokens * (place + 1) // places)) if place < places else each
        for place, each in enumerate(questions)
    ]


def synthetic(count: int, input_len: int, output_len: int, seed: int, *, shared: float = 0.0) -> list[Question]:
    """Random token ids of exactly these lengths; the first `shared` of each prompt is the same in all of them."""
    generator = random.Random(seed)
    prefix = generator.choices(range(FIRST_ID, LAST_ID), k=int(input_len * shared))
    return [
        Question(prefix + generator.choices(range(FIRST_ID, LAST_ID), k=input_len - len(prefix)), output_len)
        for _ in range(count)
    ]


def read_jsonl(path: Path) -> list[Any]:
    """One JSON value a line, or one JSON array. Raises BenchmarkError with the line that is neither."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path}: {error}") from error
    if text.lstrip().startswith("["):
        return list(json.loads(text))
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise BenchmarkError(f"{path}, line {number}: not JSON: {error}") from error
    return rows


def answer_length(generator: random.Random) -> int:
    """Tokens of one answer, log-normal as chat logs have them."""
    drawn = ANSWER_MEDIAN * generator.lognormvariate(0, ANSWER_SIGMA)
    return round(min(max(drawn, ANSWER_FEWEST), ANSWER_MOST))


def reply(sentences: Sequence[str], language: str, generator: random.Random) -> str:
    """An assistant's turn in the history: sentences on the topic, up to a log-normal length."""
    length = REPLY_CHARACTERS[language] * generator.lognormvariate(0, 0.4)
    order = generator.sample(sentences, len(sentences))
    text = order[0]
    for sentence in order[1:]:
        if len(text) + len(sentence) > length:
            break
        text += ("" if language == "zh" else " ") + sentence
    return text


def finance(count: int, seed: int, languages: Sequence[str], output_len: int | None) -> list[Question]:
    """Conversations of one to five turns on one finance topic each; answers of `output_len` tokens, else log-normal."""
    questions = read_jsonl(DATA / "finance_questions.jsonl")
    sentences = read_jsonl(DATA / "finance_replies.jsonl")
    generator = random.Random(seed)
    topics = sorted({(row["topic"], row["language"]) for row in questions if row["language"] in languages})
    return [
        Question(
            conversation(questions, sentences, *generator.choice(topics), generator),
            output_len or answer_length(generator),
        )
        for _ in range(count)
    ]


def conversation(
    questions: Sequence[dict[str, str]],
    sentences: Sequence[dict[str, str]],
    topic: str,
    language: str,
    generator: random.Random,
) -> list[dict[str, str]]:
    """One conversation that waits for its next answer. The number of turns is geometric: most are short."""
    asked = [row["question"] for row in questions if (row["topic"], row["language"]) == (topic, language)]
    known = [row["sentence"] for row in sentences if (row["topic"], row["language"]) == (topic, language)]
    turns = 1
    while turns < MOST_TURNS and generator.random() < MORE_TURNS:
        turns += 1
    first, *later = generator.sample(asked, turns)
    messages = [{"role": "user", "content": first}]
    for question in later:
        messages.append({"role": "assistant", "content": reply(known, language, generator)})
        messages.append({"role": "user", "content": question})
    return messages


ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def from_row(row: dict[str, Any], output_len: int | None, generator: random.Random) -> Question:
    """A row of a user's file: `messages`, ShareGPT's `conversations`, or `prompt`; `output_tokens` if it has them.

    A conversation is cut before the assistant's last turn, which is the answer that is asked for.
    """
    tokens = row.get("output_tokens") or output_len or answer_length(generator)
    if "prompt" in row:
        return Question(row["prompt"], tokens)
    turns = row.get("messages") or [
        {"role": ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]
    ]
    while turns and turns[-1]["role"] == "assistant":
        turns = turns[:-1]
    if not turns:
        raise ValueError("no user's turn")
    return Question(turns, tokens)


def from_file(path: Path, count: int, seed: int, output_len: int | None) -> list[Question]:
    """`count` rows of a user's JSONL or ShareGPT file in a seeded order, repeated when it has fewer."""
    rows = read_jsonl(path)
    if not rows:
        raise BenchmarkError(f"{path}: no rows")
    generator = random.Random(seed)
    order = generator.sample(range(len(rows)), len(rows))
    questions = []
    for number in range(count):
        place = order[number % len(order)]
        try:
            questions.append(from_row(rows[place], output_len, generator))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BenchmarkError(
                f"{path}, row {place + 1}: {error!r}: expected messages, conversations or prompt"
            ) from error
    return questions
