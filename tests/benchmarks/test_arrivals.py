"""Arrival times: their rate, their spread, their seed."""

import math
from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from benchmarks.arrivals import arrivals


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise([0.0, *times])]


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0, math.inf])
def test_the_rate_is_exact_and_the_spread_is_that_of_a_gamma_distribution(burstiness: float) -> None:
    times = arrivals(20_000, 8.0, burstiness=burstiness, seed=3)
    assert times == sorted(times) and times[-1] == pytest.approx(2_500)
    spread = pstdev(gaps(times)) / fmean(gaps(times))
    assert spread == pytest.approx(1 / math.sqrt(burstiness), rel=0.05, abs=1e-9)


def test_poisson_intervals_have_no_memory() -> None:
    """As many intervals over 1/rate as an exponential distribution has: exp(-1)."""
    assert fmean(gap > 0.5 for gap in gaps(arrivals(20_000, 2.0, seed=1))) == pytest.approx(0.3679, abs=0.01)


def test_the_seed_decides() -> None:
    assert arrivals(50, 1.0, seed=7) == arrivals(50, 1.0, seed=7) != arrivals(50, 1.0, seed=8)


def test_a_constant_rate() -> None:
    assert arrivals(3, 4.0, burstiness=math.inf) == [0.25, 0.5, 0.75]
