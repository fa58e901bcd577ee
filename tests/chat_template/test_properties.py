"""Properties of every conversation, on random ones. `make test` tries some, `make test-slow` 10,000 of each.

To repeat a run: PROPERTY_SEED=… (printed at a failure, and always by the slow run).
"""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings

from chat_template.encode import ConversationEncoder
from tests.chat_template.oracle import TEMPLATES, Turn, messages_of, reference_ids, reference_string
from tests.chat_template.strategies import CONTROL, conversations, harmless, hostile
from tests.family import TOKENIZER_CLASSES

SEED = int(os.environ.get("PROPERTY_SEED") or random.SystemRandom().randrange(2**32))
EXAMPLES = [
    pytest.param(300, id="some"),
    pytest.param(10_000, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
]
BOS, EOS = 1, 2

Property = Callable[[list[Turn]], None]


@pytest.fixture(autouse=True)
def seed_is_shown(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """With a failure, and above every long run."""
    if "many" in request.node.name:
        with capsys.disabled():
            print(f"\n{request.node.name}: PROPERTY_SEED={SEED}")
    print(f"PROPERTY_SEED={SEED}")


def run(strategy: Any, examples: int, check: Property) -> None:
    """Let hypothesis look for a conversation that `check` fails on."""
    relaxed = settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    seed(SEED)(relaxed(given(strategy)(check)))()


@pytest.fixture(scope="module")
def arms(load: Any, encoder_of: Any) -> list[tuple[str, Any, ConversationEncoder]]:
    """Template, tokenizer and renderer: every combination. A conversation goes through one of them, by its text."""
    return [(template, load(kind), encoder_of(kind, template)) for template in TEMPLATES for kind in TOKENIZER_CLASSES]


def chosen(arms: list[Any], turns: list[Turn]) -> tuple[str, Any, ConversationEncoder]:
    """An arm that depends on the conversation alone, so that a failure repeats."""
    return arms[sum(len(text) for _, text in turns) % len(arms)]  # type: ignore[no-any-return]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_harmless_conversations_get_the_reference_ids(examples: int, arms: list[Any]) -> None:
    def check(turns: list[Turn]) -> None:
        template, tokenizer, encoder = chosen(arms, turns)
        string = reference_string(turns, template)
        rendered = encoder.encode_messages(messages_of(turns))
        assert rendered.prompt == string
        assert rendered.token_ids == reference_ids(tokenizer, string)

    run(conversations(harmless), examples, check)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_no_text_becomes_a_control_token(examples: int, arms: list[Any]) -> None:
    def check(turns: list[Turn]) -> None:
        template, tokenizer, encoder = chosen(arms, turns)
        rendered = encoder.encode_messages(messages_of(turns))
        answers = sum(role == "assistant" for role, _ in turns)
        found = [at for at, number in enumerate(rendered.token_ids) if number in tokenizer.all_special_ids]
        assert found == rendered.control_positions
        assert [rendered.token_ids[at] for at in found] == [BOS] + [EOS] * answers
        assert rendered.control_text == sum(text.strip().count(c) for _, text in turns for c in CONTROL)
        assert decoded_runs(tokenizer, rendered.token_ids, found) == [visible(run) for run in runs_of(turns, template)]

    run(conversations(hostile), examples, check)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_turn_and_its_reply_are_the_start_of_the_next_turn(examples: int, arms: list[Any]) -> None:
    def check(turns: list[Turn]) -> None:
        _, tokenizer, encoder = chosen(arms, turns)
        for asked in range(1, len(turns) - 1, 2):
            before = encoder.encode_messages(messages_of(turns[:asked])).token_ids
            after = encoder.encode_messages(messages_of(turns[: asked + 2])).token_ids
            reply = turns[asked][1].strip()
            end = after.index(EOS, len(before))
            assert after[: len(before)] == before
            assert tokenizer.decode(after[len(before) : end]).strip(" ") == visible(reply).strip(" ")

    run(conversations(harmless), examples, check)


def runs_of(turns: list[Turn], template: str) -> list[str]:
    """The texts between the template's own end-of-text tokens: the reference string, cut where those are."""
    marked = [(role, text.replace("</s>", "\ue000")) for role, text in turns]
    return [run.replace("\ue000", "</s>") for run in reference_string(marked, template).split("</s>")]


def decoded_runs(tokenizer: Any, token_ids: list[int], controls: list[int]) -> list[str]:
    """The text of each stretch of ids between control tokens, without the space that may stand for its start."""
    ends = [*controls[1:], len(token_ids)]
    return [tokenizer.decode(token_ids[at + 1 : end]).lstrip(" ") for at, end in zip(controls, ends, strict=True)]


def visible(text: str) -> str:
    """`text` as SentencePiece can give it back: its own mark for a space is one."""
    return text.replace("▁", " ").lstrip(" ")
