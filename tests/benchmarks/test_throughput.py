"""What offline runs are given, and how a failure is told."""

import argparse
import re

import pytest

from benchmarks.__main__ import main
from benchmarks.commands import throughput
from benchmarks.systems import Recipe
from tests.benchmarks.test_compare import RECIPE

ARGS = argparse.Namespace(input_len=100, output_len=64, num_prompts=8, num_warmups=2, seed=3)

LOAD = "--dataset-name random --random-input-len 100 --random-output-len 64 --num-prompts 8 --num-warmups 2 --seed 3"


def test_an_offline_run_gets_the_launchers_flags_and_environment() -> None:
    ours, plain = (throughput.flags(name, RECIPE, ARGS) for name in throughput.ENGINES)
    assert ours[: len(RECIPE.args)] == list(RECIPE.args) and "--dtype" not in plain
    assert plain[:2] == ["--model", "/m"] and ours[-12:] == plain[-12:] == LOAD.split()
    assert throughput.environment("launcher", RECIPE)["VLLM_CPU_OMP_THREADS_BIND"] == "0,1"
    assert "xuanyuan" not in throughput.environment("plain", RECIPE)["VLLM_PLUGINS"]


def test_a_run_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(throughput, "recipe", lambda model: Recipe("/m", ("--nonsense",), {}))
    monkeypatch.setattr(throughput.sys, "executable", "/bin/false")  # type: ignore[attr-defined]
    assert main(["throughput", "launcher"]) == 3
    assert "vllm bench throughput failed for launcher" in capsys.readouterr().err


def test_an_unknown_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["throughput", "hf"])
    assert "no engine 'hf'; there are launcher, plain" in capsys.readouterr().err


def row(speed: float) -> dict[str, float]:
    return {"requests_per_second": speed / 10, "tokens_per_second": speed, "output_tokens_per_second": speed / 2}


def test_runs_of_a_round_are_compared() -> None:
    found = throughput.summary(
        {"launcher": [row(200), row(400)], "launcher again": [row(200), row(400)], "plain": [row(100), row(200)]}
    )
    assert found["ratios"]["plain"]["value"] == pytest.approx(2)
    assert found["ratios"]["launcher again"]["value"] == pytest.approx(1)
    assert found["means"]["plain"]["tokens_per_second"] == 150
    assert re.search(r"plain +15.00 +150.00 +75.00 +2.00 +2.00 to 2.00", throughput.text(found))
