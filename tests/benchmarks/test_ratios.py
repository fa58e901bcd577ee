"""Pairs of blocks, and which of them count."""

from dataclasses import asdict
from typing import Any

import pytest

from benchmarks.ratios import compare
from benchmarks.report import averages, roofline
from benchmarks.roofline import Model


def block(arm: str, number: int, tokens: float, tpot: float = 10.0, void: list[str] | None = None) -> dict[str, Any]:
    row = dict.fromkeys(("request_throughput", "p99_ttft_ms", "p99_tpot_ms"), 1.0)
    row |= {"total_input_tokens": 160, "total_output_tokens": 32}
    row |= {"output_throughput": tokens, "median_ttft_ms": 5.0, "mean_tpot_ms": tpot}
    return {"arm": arm, "round": number, "point": "c8", "completed": 16, "void": void or [], **row}


def rounds(count: int = 5) -> list[dict[str, Any]]:
    """The machine slows down from round to round; `a` is 1.5 times as fast as `b` in each."""
    blocks = []
    for number in range(count):
        slow = 1 + number
        blocks += [block("a", number, 150 / slow, 10 * slow), block("b", number, 100 / slow, 15 * slow)]
        blocks.append(block("a again", number, 151 / slow, 10 * slow))
    return blocks


def test_the_first_is_compared_within_each_round() -> None:
    found = {item.metric: item for item in compare(rounds(), ["a", "b"])}
    throughput, pace = found["output_throughput"], found["mean_tpot_ms"]
    assert (throughput.ratio.value, throughput.ratio.high) == pytest.approx((1.5, 1.5))
    assert pace.ratio.value == pytest.approx(1.5)
    assert (throughput.verdict, found["median_ttft_ms"].verdict) == ("better", "same")
    assert throughput.noise.value == pytest.approx(150 / 151)


def test_the_other_way_round_it_is_worse() -> None:
    blocks = [item | {"arm": {"a": "b", "b": "a", "a again": "x"}[item["arm"]]} for item in rounds()]
    blocks += [item | {"arm": "a again"} for item in blocks if item["arm"] == "a"]
    assert {item.metric: item.verdict for item in compare(blocks, ["a", "b"])}["output_throughput"] == "worse"


def test_pairs_with_a_void_block_are_left_out() -> None:
    blocks = [*rounds(), block("a", 5, 900, void=["steal"]), block("b", 5, 1), block("a again", 5, 900)]
    (found,) = [item for item in compare(blocks, ["a", "b"]) if item.metric == "output_throughput"]
    assert found.ratio.value == pytest.approx(1.5)
    assert (found.ratio.pairs, found.void, found.verdict) == (5, 1, "better")


def test_where_all_are_void_they_are_shown_and_decide_nothing() -> None:
    blocks = [item | {"void": ["lag"]} for item in rounds()]
    (found,) = [item for item in compare(blocks, ["a", "b"]) if item.metric == "output_throughput"]
    assert found.ratio.value == pytest.approx(1.5)
    assert (found.verdict, found.void) == ("void", 5)


def test_a_block_without_its_counterpart_is_no_pair() -> None:
    blocks = [*rounds(4), block("a", 9, 1000)]
    assert {item.ratio.pairs for item in compare(blocks, ["a", "b"])} == {4}
    assert compare(blocks, ["a", "c"]) == []


def test_averages_leave_out_void_blocks_where_others_remain() -> None:
    blocks = [block("a", 0, 100), block("a", 1, 200), block("a", 2, 900, void=["lag"]), block("b", 0, 7, void=["lag"])]
    first, second = averages(blocks, ["a", "b"])
    assert (first["output_throughput"], first["used"], first["blocks"]) == (150, 2, 3)
    assert (second["output_throughput"], second["used"], second["tokens_per_user"]) == (7, 1, 100)


def test_the_context_is_the_prompt_and_half_the_answer() -> None:
    assert averages([block("a", 0, 100)], ["a"])[0]["context"] == (160 + 32 / 2) / 16


def test_how_near_each_closed_loop_came_to_the_ceilings() -> None:
    run = {"ceilings": {"bandwidth_gb_s": 1e-9, "gemm_gflop_s": 1e3}, "shape": asdict(Model(1, 2, 1, 1, 2, 3, 5, 2, 2))}
    points = averages([block("a", 0, 100, 96_000)], ["a"])
    (found,) = roofline(run, [points[0] | {"context": 0}])
    # Eight sequences without a context: 88 bytes of weights and 8 written to the cache for each, at 1 byte/s.
    assert found["mbu"] == pytest.approx((88 + 64) / 96) and found["step_ms"] == 96_000
    assert roofline({}, points) == []
