"""The search, on servers whose capacity is known."""

import math
from dataclasses import replace
from heapq import heapify, heapreplace

import pytest

from benchmarks.arrivals import arrivals
from benchmarks.capacity import Capacity, Probe, judge, queue_grows, requests_for, search
from benchmarks.metrics import Outcome, Slo

SERVICE = 0.5


def queue(rate: float, places: int, burstiness: float, count: int, seed: int = 0) -> list[Outcome]:
    """Outcomes of `places` servers that take SERVICE seconds a request, in the order of arrival."""
    free = [0.0] * places
    heapify(free)
    outcomes = []
    for due in arrivals(count, rate, burstiness=burstiness, seed=seed):
        begin = max(due, free[0])
        heapreplace(free, begin + SERVICE)
        wait = begin - due
        outcomes.append(answer(due, wait + SERVICE / 10, wait + SERVICE))
    return outcomes


def answer(due: float, ttft: float, e2el: float) -> Outcome:
    return Outcome(
        start=due, send_lag=0, ttft=ttft, slo_ttft=ttft, tpot=0.01, e2el=e2el, slo_e2el=e2el, gaps=[], times=[],
        pieces=0, input_tokens=0, output_tokens=0, text="", error="", explained=True,
    )  # fmt: skip


@pytest.mark.parametrize("places", [1, 4, 30])
@pytest.mark.parametrize("start", [0.1, 1.0, 500.0])
def test_a_known_capacity_is_found_within_ten_percent(places: int, start: float) -> None:
    """At a constant rate nobody waits until the rate passes places / SERVICE; beyond it the queue grows for ever."""
    capacity = places / SERVICE

    def probe(rate: float) -> Probe:
        outcomes = queue(rate, places, math.inf, requests_for(rate, 0.95, 60))
        return judge(rate, outcomes, Slo(ttft=0.2), 0.95)

    found = search(probe, start)
    assert found.low <= capacity * 1.001 and capacity <= found.high <= 1.1 * found.low * 1.001


def test_a_queue_that_grows_fails_even_without_an_slo() -> None:
    assert queue_grows(queue(2.4, 1, 1.0, 400)) and not queue_grows(queue(1.4, 1, 1.0, 400))
    assert not judge(2.4, queue(2.4, 1, 1.0, 400), Slo(), 0.95).passed


def test_a_steady_queue_seldom_looks_like_a_growing_one() -> None:
    """Poisson arrivals at 80 % of the capacity: at most 2 of 100 runs may be taken for overload."""
    assert sum(queue_grows(queue(6.4, 4, 1.0, 200, seed)) for seed in range(100)) <= 2


def test_seventy_two_good_answers_are_too_few() -> None:
    items = [answer(number, 0.1, 0.2) for number in range(73)]
    assert judge(1, items, Slo(ttft=1), 0.95).passed and not judge(1, items[:72], Slo(ttft=1), 0.95).passed


def test_one_slow_answer_among_73_fails() -> None:
    items = [answer(number, 0.1, 0.2) for number in range(73)]
    assert not judge(1, [*items[:72], replace(items[72], slo_ttft=3.0)], Slo(ttft=1), 0.95).passed


def probe_of(rate: float, passed: bool, void: tuple[str, ...] = ()) -> Probe:
    return Probe(rate, passed, 1.0, 1.0, False, 2.0, void)


def test_a_void_probe_is_tried_again_and_counts_at_the_third_time() -> None:
    tries: list[float] = []

    def probe(rate: float) -> Probe:
        tries.append(rate)
        return probe_of(rate, rate <= 1, ("busy",) if rate > 1 else ())

    found = search(probe, 1.0)
    assert tries[:4] == [1.0, 2.0, 2.0, 2.0] and found.low == 1.0 and found.high <= 1.1


def test_a_server_that_never_fails_has_no_upper_bound() -> None:
    found = search(lambda rate: probe_of(rate, True), 1.0)
    assert math.isinf(found.high) and found.low == 2.0**15


def test_a_server_that_never_passes_has_capacity_zero() -> None:
    found = search(lambda rate: probe_of(rate, False), 1.0)
    assert (found.low, found.users(20)) == (0.0, (0, 0))


def test_users_think_and_wait() -> None:
    found = Capacity(2.0, 2.2, [probe_of(2.0, True), probe_of(2.2, False)])
    assert found.users(think_time=20) == (44, 48)
