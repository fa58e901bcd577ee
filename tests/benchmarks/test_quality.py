"""The precision gate, on servers whose every number is known."""

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.console import BenchmarkError
from benchmarks.quality_asks import Passage, Progress, Reply, Sample, letter, passage, passages, questions
from benchmarks.quality_gate import Finding, Interval, Thresholds, against, bootstrap
from tests.benchmarks.conftest import exit_code
from tests.benchmarks.quality_server import Oracle, serving


def choices_folder(folder: Path) -> Path:
    """Fifty questions whose number and answer stand in them, for the server to read."""
    rows = [f"Question #{number} {'ABCD'[number % 4]}?,1,2,3,4,{'ABCD'[number % 4]}" for number in range(50)]
    text = "Question,A,B,C,D,Answer\n" + "\n".join(rows).replace("?,", " ?,")
    (folder / "Numbers.csv").write_text(text)
    return folder


def outcome(
    capsys: pytest.CaptureFixture[str], folder: Path, other: Oracle, *words: str
) -> tuple[int, dict[str, dict[str, float]], str]:
    """(exit code, what is found of the second server by metric, stdout) against one that is always right."""
    with serving(Oracle()) as first, serving(other) as second:
        urls = ["--url", f"first={first}", "--url", f"second={second}"]
        code = main(["quality", *urls, "--choices", str(choices_folder(folder)), "--num-prompts", "20", *words])
    shown = capsys.readouterr().out
    found = json.loads(shown.splitlines()[-1])["gate"]
    assert {item["form"] for item in found} == {"first again", "second"}
    assert all(item["verdict"] == "pass" for item in found if item["form"] == "first again")
    return code, {item["metric"]: item for item in found if item["form"] == "second"}, shown


def test_a_form_that_is_as_good_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, shown = outcome(capsys, tmp_path, Oracle())
    assert code == 0 and {item["verdict"] for item in found.values()} == {"pass"}
    values = {metric: item["value"] for metric, item in found.items()}
    assert values == pytest.approx(
        {"perplexity_ratio": 1, "agreement": 1, "stop_rate_change": 0, "length_ratio": 1, "accuracy_change": 0}
    )
    assert "No limit is failed." in shown


def test_a_worse_form_fails_by_how_much_it_is_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = Oracle(loss=1.3, odd=2, length=30, endless=2, knows=5)
    code, found, shown = outcome(capsys, tmp_path, worse, "--html", str(tmp_path / "page.html"))
    assert code == 1
    assert found["perplexity_ratio"]["value"] == pytest.approx(math.exp(0.3))
    assert found["agreement"]["value"] == pytest.approx(0.5, abs=0.03)
    assert found["stop_rate_change"]["value"] == pytest.approx(-0.5)
    assert found["length_ratio"]["value"] == pytest.approx(1.5)
    # Of the 45 that are no examples, those whose number ends in 0 to 4 are known.
    assert found["accuracy_change"]["value"] == pytest.approx(-25 / 45)
    assert {item["verdict"] for item in found.values()} == {"fail"}
    assert len(re.findall("^FAILED: second: ", shown, re.MULTILINE)) == 5
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2 and "Failed: second, perplexity" in page
    assert re.findall(r"""(?:src|href)=|url\(|@import|<script|<link""", page) == []


def test_limits_are_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = "--perplexity-ratio 1.4 --agreement 0.4 --stop-rate-drop 0.9 --length-drift 0.6 --accuracy-drop 0.8"
    code, found, _ = outcome(capsys, tmp_path, Oracle(1.3, 2, 30, 2, 5), *limits.split(), "--json")
    assert code == 0 and {item["verdict"] for item in found.values()} == {"pass"}


def test_what_is_asked(tmp_path: Path) -> None:
    oracle = Oracle()
    with serving(oracle) as url, serving(Oracle()) as other:
        words = ["--url", f"a={url}", "--url", f"b={other}", "--choices", str(choices_folder(tmp_path)), "--shots", "2"]
        assert main(["quality", *words, "--num-prompts", "4", "--max-tokens", "9"]) == 0
    half = oracle.asked[: len(oracle.asked) // 2]
    echoed = [body for body in half if body.get("echo")]
    chosen = [body for body in half if "prompt" in body and not body.get("echo")]
    asked = [body for body in half if "messages" in body]
    assert [len(echoed), len(asked), len(chosen)] == [40, 4, 48]
    assert {body["temperature"] for body in half} == {0} and {body["max_tokens"] for body in asked} == {9}
    assert all(body["prompt"].count("Answer:") == 3 and "about Numbers" in body["prompt"] for body in chosen)


def test_texts_and_questions_are_of_both_languages_and_the_same_each_time() -> None:
    texts = passages()
    assert len(texts) == 40 and sum(language == "zh" for language, _ in texts) == 20
    assert all(len(text) > 80 for _, text in texts)
    asked = questions(10, 3)
    assert asked == questions(10, 3) != questions(10, 4) and len(set(asked)) == 10
    assert sum(question.isascii() for question in asked) == 5


def finding(low: float, high: float, least: float = -math.inf, most: float = math.inf) -> str:
    return Finding("x", "y", Interval((low + high) / 2, low, high, 9), least, most).verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.9, 1.1, "pass"), (1.1, 1.3, "unclear"), (1.21, 1.3, "fail"), (0.7, 0.79, "fail")]
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    assert finding(low, high, 0.8, 1.2) == verdict


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Coins of one half, 40 a time: some 94 % of the intervals hold 0.5; fewer than 40 of 50 would be no chance."""
    generator = random.Random(5)
    hits = 0
    for seed in range(50):
        coins = [generator.random() < 0.5 for _ in range(40)]
        found = bootstrap(coins, mean, seed)
        hits += found.low <= 0.5 <= found.high
    assert 40 <= hits <= 50


def mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def test_other_tokens_cannot_be_compared() -> None:
    ours, theirs = (Sample([Passage("en", 1.0, tokens, tokens)], [Reply(1, True)]) for tokens in (("a", "b"), ("ab",)))
    with pytest.raises(BenchmarkError, match="4bit cuts the texts into other tokens"):
        against("4bit", ours, theirs, Thresholds())


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": [{"text": "x"}], "usage": {"prompt_tokens": 3}},
        {"choices": [{"logprobs": None}], "usage": {"prompt_tokens": 3}},
        {
            "choices": [{"logprobs": {"tokens": [1], "token_logprobs": [None], "top_logprobs": [None]}}],
            "usage": {"prompt_tokens": 5},
        },
    ],
)
def test_a_server_without_log_probabilities_is_told(answer: dict[str, object]) -> None:
    with pytest.raises(BenchmarkError, match="log probabilities"):
        passage("en", answer)


def test_no_letter_among_the_candidates_is_no_answer() -> None:
    assert letter({"choices": [{"logprobs": {"top_logprobs": [{"x": -1.0, "AB": -2.0}]}}]}) == ""
    with pytest.raises(BenchmarkError, match="without log probabilities"):
        letter({"choices": [{"logprobs": None}]})


def test_progress_says_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    progress = Progress("texts", 4, lambda: now[0])
    for _ in range(4):
        now[0] += 6
        progress.count()
    assert capsys.readouterr().err == "  texts: 2 of 4, about 12 s left\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("quality --demo-form bf16", 3, "name two forms or more, each once; got bf16"),
        ("quality --demo-form bf16 bf16", 3, "each once; got bf16, bf16"),
        ("quality --choices /nowhere", 3, "/nowhere: expected a folder of CSV files"),
        ("quality --agreement 0", 2, "expected a number above 0, got 0"),
        ("quality --url a=http://127.0.0.1:1 --url b=http://127.0.0.1:1", 3, "http://127.0.0.1:1/v1/models"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_line(
    words: str, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exit_code(words)
    shown = capsys.readouterr().err.splitlines()
    assert found == code and text in shown[-1]
