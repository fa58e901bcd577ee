"""Starts in turns, on servers that start at once; and the help of every command."""

import json

import pytest

from benchmarks.__main__ import COMMANDS, main
from benchmarks.client import Server
from benchmarks.commands import startup
from benchmarks.starts import summary
from benchmarks.systems import Chosen, System
from tests.benchmarks.test_compare import fake


def test_each_is_started_as_often_as_there_are_rounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = System("hf", Server(""), absent="transformers is not installed")
    monkeypatch.setattr(startup, "choose", lambda *asked: Chosen((fake("launcher"), fake("plain"), absent), None))
    assert main(["startup", "--rounds", "2", "--num-warmups", "0"]) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out.splitlines()[-1])
    assert {arm: len(times) for arm, times in result["startup_s"].items()} == {
        "launcher": 2,
        "plain": 2,
        "launcher again": 2,
    }
    assert all(0.01 < time < 30 for times in result["startup_s"].values() for time in times)
    assert all(held > 1_000_000 for held in result["memory_bytes"].values())
    assert set(result["ratios"]) == {"plain", "launcher again"} and "hf is absent: transformers" in shown.out


def test_the_first_ones_time_is_given_as_a_share() -> None:
    result = summary({"a": [2.0, 2.0], "b": [8.0, 8.0], "a again": [2.0, 2.0]}, {"a": [1], "b": [3]})
    assert (result["ratios"]["b"]["value"], result["ratios"]["a again"]["value"]) == pytest.approx((0.25, 1))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and f"python -m benchmarks {name}" in shown.partition("\n\n")[2] and "--json" in shown
