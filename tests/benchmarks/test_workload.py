"""What is asked: exact lengths, shared prefixes, seeds, and users' own files."""

import json
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from benchmarks.console import BenchmarkError
from benchmarks.workload import CHAT, COMPLETIONS, DATA, Question, finance, from_file, read_jsonl, synthetic


def test_synthetic_lengths_are_exact() -> None:
    questions = synthetic(20, 100, 64, seed=1)
    call = questions[0].call("m", ignore_eos=True)
    assert {len(question.content) for question in questions} == {100}
    assert (call.path, call.input_tokens, call.output_tokens) == (COMPLETIONS, 100, 64)
    body = json.loads(call.body)
    assert (body["max_tokens"], body["ignore_eos"], body["stream_options"]) == (64, True, {"include_usage": True})
    assert questions == synthetic(20, 100, 64, seed=1) != synthetic(20, 100, 64, seed=2)


def test_three_quarters_of_a_prompt_are_shared() -> None:
    first, second = (question.content for question in synthetic(2, 100, 8, seed=1, shared=0.75))
    assert first[:75] == second[:75] and first[75] != second[75]


def test_there_are_twenty_questions_on_each_of_ten_topics_and_none_twice() -> None:
    rows = read_jsonl(DATA / "finance_questions.jsonl")
    counts = Counter((row["topic"], row["language"]) for row in rows)
    assert len(counts) == 20 and set(counts.values()) == {10}
    assert len({row["question"] for row in rows}) == 200


def messages(question: Question) -> list[dict[str, str]]:
    """The turns of a conversation."""
    return [turn for turn in question.content if isinstance(turn, dict)]


def test_finance_conversations_take_turns_and_end_with_the_user() -> None:
    questions = finance(300, 0, ("zh", "en"), None)
    for question in questions:
        roles = [message["role"] for message in messages(question)]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert {len(question.content) for question in questions} == {1, 3, 5, 7, 9}
    assert 120 <= median(question.output_tokens for question in questions) <= 180
    assert all(16 <= question.output_tokens <= 256 for question in questions)


def test_one_language_can_be_asked_for() -> None:
    for question in finance(50, 0, ("en",), 32):
        assert messages(question)[-1]["content"].isascii() and question.output_tokens == 32


def test_conversations_stay_within_the_familys_context() -> None:
    """A Chinese character is at most one token, an English one a third: with 256 to answer, under 2,048."""
    for question in finance(2_000, 1, ("zh", "en"), None):
        text = "".join(message["content"] for message in messages(question))
        assert sum(1 if ord(letter) > 127 else 1 / 3 for letter in text) < 2_048 - 256


@pytest.mark.parametrize(
    ("row", "content"),
    [
        ({"prompt": "1, 2,"}, "1, 2,"),
        ({"prompt": [5, 6]}, [5, 6]),
        ({"messages": [{"role": "user", "content": "hi"}]}, [{"role": "user", "content": "hi"}]),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
            [{"role": "user", "content": "hi"}],
        ),
    ],
)
def test_rows_of_a_users_file(tmp_path: Path, row: dict[str, object], content: object) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row) + "\n\n")
    (question,) = from_file(path, 1, 0, 32)
    assert question == Question(content, 32)  # type: ignore[arg-type]
    assert question.call("m", ignore_eos=False).path == (CHAT if question.is_chat else COMPLETIONS)


def test_a_sharegpt_array_is_repeated_in_a_seeded_order(tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    path.write_text(json.dumps([{"prompt": str(number), "output_tokens": 9} for number in range(3)]))
    asked = [question.content for question in from_file(path, 7, 4, None)]
    assert sorted(asked[:3]) == ["0", "1", "2"] and asked[3:6] == asked[:3]
    assert {question.output_tokens for question in from_file(path, 7, 4, None)} == {9}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no rows"),
        ('{"prompt": "a"}\n{"prompt"', "line 2: not JSON"),
        ('{"question": "a"}', "row 1"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "row 1"),
        ("[1]", "row 1"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=error):
        from_file(path, 1, 0, None)
    with pytest.raises(BenchmarkError, match="nowhere"):
        from_file(tmp_path / "nowhere", 1, 0, None)
