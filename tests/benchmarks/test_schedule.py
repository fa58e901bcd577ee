"""The order of turns, and what of a run is still to be done."""

import json
from pathlib import Path

import pytest

from benchmarks.console import BenchmarkError
from benchmarks.schedule import Point, Visit, in_order, points, schedule
from benchmarks.store import Store, differences, write_json


def test_every_second_round_mirrors_the_one_before() -> None:
    visits = schedule(["a", "b"], 6, seed=3)
    rounds = [[visit.arm for visit in visits if visit.round == number] for number in range(6)]
    assert all(sorted(order) == ["a", "a again", "b"] for order in rounds)
    assert all(rounds[number + 1] == rounds[number][::-1] for number in (0, 2, 4))
    assert {visit.system for visit in visits} == {"a", "b"}


def test_the_order_depends_on_the_seed_and_more_rounds_only_add() -> None:
    assert schedule(["a", "b"], 4, seed=1) == schedule(["a", "b"], 9, seed=1)[:12]
    assert len({tuple(schedule(["a", "b"], 2, seed)) for seed in range(20)}) == 6


def test_points() -> None:
    closed, wide, opened = points([1, 8], [1.5], waves=3, seconds=10)
    assert (closed.name, closed.count) == ("c1", 3)
    assert (wide.name, wide.count, str(wide)) == ("c8", 24, "8 at a time")
    assert (opened.name, opened.count, str(opened)) == ("r1.5", 15, "1.5 a second")
    assert in_order(["r4", "c32", "c4", "r0.5", "c4"]) == ["c4", "c32", "r0.5", "r4"]


def test_a_run_goes_on_only_with_the_same_settings(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    store.begin({"seed": "0"})
    store.note(model="m")
    store.begin({"seed": "0"})
    assert store.run() == {"asked": {"seed": "0"}, "model": "m"}
    with pytest.raises(BenchmarkError, match=r"settings \(seed: 0 before, now 1\): name another folder with --out"):
        store.begin({"seed": "1"})


def test_blocks_come_back_in_the_order_of_rounds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin({})
    for number in (10, 2):
        write_json(store.path(Visit(number, "a again"), Point(8, None, 16)), {"round": number})
    assert [block["round"] for block in store.load()] == [2, 10]
    assert sorted(path.name for path in store.blocks.iterdir()) == ["002-a-again-c8.json", "010-a-again-c8.json"]
    assert json.loads((tmp_path / "run.json").read_text()) == {"asked": {}}


def test_what_differs_is_told_by_the_words_that_do() -> None:
    before = {"engine": "--dtype=bfloat16 --seed=1", "seed": "0", "rate": "1"}
    now = {"engine": "--dtype=float32 --seed=1", "seed": "0", "think_time": "5"}
    told = "engine: --dtype=bfloat16 before, now --dtype=float32; rate: 1 before, now nothing; "
    assert differences(before, now) == told + "think_time: nothing before, now 5"
