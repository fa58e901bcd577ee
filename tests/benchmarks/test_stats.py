"""Bounds against published values; the bootstrap against a known spread; the gate's three answers."""

import math
import random

import pytest

from benchmarks.stats import Ratio, fewest_requests, gate, paired_ratio, percentile, slope, student_t95, wilson


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [
        # R. G. Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_bounds(successes: int, total: int, low: float, high: float) -> None:
    assert wilson(successes, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_nothing_knows_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("target", "count"), [(0.95, 73), (0.99, 381)])
def test_fewest_requests(target: float, count: int) -> None:
    assert fewest_requests(target) == count
    assert wilson(count, count)[0] >= target > wilson(count - 1, count - 1)[0]


@pytest.mark.parametrize(("freedom", "value"), [(2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042)])
def test_student_t(freedom: int, value: float) -> None:
    """Against the usual table; the expansion is 1 % short at two degrees of freedom and exact from four on."""
    assert student_t95(freedom) == pytest.approx(value, rel=0.01 if freedom < 4 else 0.0005)


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 2.5), (90, 3.7), (100, 4.0)])
def test_percentiles_are_numpys(percent: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == pytest.approx(value)


def test_a_constant_ratio_has_no_width() -> None:
    ratio = paired_ratio([10, 20, 30, 40], [13, 26, 39, 52])
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((1.3, 1.3, 1.3))


def test_pairs_take_out_what_both_share() -> None:
    """Blocks that differ tenfold between rounds still give a narrow ratio, as each is compared within its round."""
    ratio = paired_ratio([1, 10, 100, 5], [1.21, 12.0, 119.0, 6.0])
    assert 1.18 < ratio.low < ratio.value < ratio.high < 1.22


def test_the_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    generator = random.Random(5)
    hits = 0
    for seed in range(200):
        pairs = [math.exp(generator.gauss(0.2, 0.1)) for _ in range(6)]
        ratio = paired_ratio([1.0] * 6, pairs, seed)
        hits += ratio.low <= math.exp(0.2) <= ratio.high
    assert 0.90 <= hits / 200 <= 0.99


def test_one_pair_tells_nothing() -> None:
    assert paired_ratio([2.0], [3.0]) == Ratio(1.5, 0.0, math.inf, 1)


NOISE = Ratio(1.0, 0.98, 1.02, 6)


@pytest.mark.parametrize(
    ("ratio", "noise", "verdict"),
    [
        (Ratio(0.90, 0.85, 0.95, 6), NOISE, "worse"),
        (Ratio(1.10, 1.05, 1.15, 6), NOISE, "better"),
        (Ratio(0.98, 0.97, 0.99, 6), NOISE, "same"),  # certain, but under 3 %
        (Ratio(0.90, 0.80, 1.01, 6), NOISE, "same"),  # large, but not certain
        (Ratio(0.90, 0.85, 0.95, 6), Ratio(1.0, 0.85, 1.15, 6), "same"),  # the same system differs as much
        (Ratio(0.90, 0.85, 0.95, 3), NOISE, "unknown"),
        (Ratio(0.90, 0.85, 0.95, 6), Ratio(1.0, 0.99, 1.01, 2), "unknown"),
    ],
)
def test_gate(ratio: Ratio, noise: Ratio, verdict: str) -> None:
    assert gate(ratio, noise) == verdict


def test_a_slope_has_the_interval_of_the_textbook() -> None:
    """By hand: residuals of 0.1, -0.1, -0.1, 0.1 around 2x + 1, and t(2) is 4.303."""
    found = slope([1, 2, 3, 4], [3.1, 4.9, 6.9, 9.1])
    assert (found.value, found.intercept) == pytest.approx((2.0, 1.0))
    assert (found.high - 2.0, 2.0 - found.low) == pytest.approx([4.303 * math.sqrt(0.02 / 5)] * 2, rel=0.01)
    assert slope([1, 2], [1.0, 2.0]).low == -math.inf


def test_the_interval_of_a_slope_holds_the_true_one() -> None:
    generator = random.Random(4)
    xs = [8.0, 16.0, 32.0, 64.0, 128.0] * 2
    held = 0
    for _ in range(400):
        found = slope(xs, [3 * x + 5 + generator.gauss(0, 20) for x in xs])
        held += found.low <= 3 <= found.high
    assert 0.92 <= held / 400 <= 0.98
