"""How much a server takes: double the arrival rate until it fails, then halve the bracket until it is 10 % wide."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchmarks.metrics import Outcome, Slo
from benchmarks.stats import fewest_requests, wilson

BRACKET = 1.10
MOST_DOUBLINGS = 16
TRIES = 3
# A backlog that grows by more than this share of what arrives does not end.
GROWTH = 0.05


@dataclass(frozen=True)
class Probe:
    """One rate that was tried. `void` tells why the block must not be believed."""

    rate: float
    passed: bool
    attainment: float
    attainment_low: float
    queue_grows: bool
    mean_latency: float
    void: tuple[str, ...] = ()
    summary: dict[str, Any] | None = None


@dataclass(frozen=True)
class Capacity:
    """The highest rate that passed and the lowest that did not, in requests/s. `low` is 0 when nothing passed."""

    low: float
    high: float
    probes: list[Probe]

    def users(self, think_time: float) -> tuple[int, int]:
        """How many users these rates are: each thinks, asks, and waits for the whole answer (Little's law)."""
        passed = [probe for probe in self.probes if probe.passed and probe.rate == self.low]
        latency = passed[-1].mean_latency if passed else 0.0
        high = 0 if math.isinf(self.high) else self.high
        return math.floor(self.low * (think_time + latency)), math.floor(high * (think_time + latency))


def requests_for(rate: float, attain: float, seconds: float) -> int:
    """How many requests a probe needs: enough to decide, and enough to fill the time in which a queue would show."""
    return max(fewest_requests(attain), math.ceil(rate * seconds))


def backlog(outcomes: Sequence[Outcome]) -> list[int]:
    """How many requests were open as each arrived, in order of arrival."""
    due = [item.start - item.send_lag for item in outcomes]
    ends = sorted(start + item.slo_e2el for start, item in zip(due, outcomes, strict=True))
    return [number - bisect_right(ends, start) for number, start in enumerate(due)]


def queue_grows(outcomes: Sequence[Outcome]) -> bool:
    """Whether requests pile up: more are open in the last quarter than in the second, beyond chance.

    Between the middles of these quarters half of the requests arrived. Their backlog must be over 5 % of those, and
    over two standard deviations of a Poisson number of open requests.
    """
    opened = backlog(outcomes)
    quarter = len(opened) // 4
    if quarter == 0:
        return False
    before, after = fmean(opened[quarter : 2 * quarter]), fmean(opened[-quarter:])
    return after - before > max(GROWTH * len(opened) / 2, 2 * math.sqrt(before))


def judge(rate: float, outcomes: Sequence[Outcome], slo: Slo, attain: float) -> Probe:
    """Whether the server takes this rate: the SLO is met often enough to be sure of it, and no queue grows."""
    met = sum(item.meets(slo) for item in outcomes)
    low, _ = wilson(met, len(outcomes))
    grows = queue_grows(outcomes)
    latency = fmean([item.slo_e2el for item in outcomes])
    return Probe(rate, low >= attain and not grows, met / len(outcomes), low, grows, latency)


def search(try_rate: Callable[[float], Probe], start: float) -> Capacity:
    """Find the capacity from a first guess. A void probe is tried again, three times at most; then it counts."""
    probes: list[Probe] = []

    def passes(rate: float) -> bool:
        for _ in range(TRIES):
            probes.append(try_rate(rate))
            if not probes[-1].void:
                break
        return probes[-1].passed

    low, high = 0.0, math.inf
    rate = start
    for _ in range(MOST_DOUBLINGS):
        if passes(rate):
            low = rate
        else:
            high = rate
        if low and not math.isinf(high):
            break
        rate = rate * 2 if low else rate / 2
    while low and not math.isinf(high) and high / low > BRACKET:
        middle = math.sqrt(low * high)
        if passes(middle):
            low = middle
        else:
            high = middle
    return Capacity(low, high, probes)
