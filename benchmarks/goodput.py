"""How many answers a second a server makes, from when their tokens came: of a closed loop, and under overload.

An answer counts by the share of its tokens that came in a window of time. To count whole answers at their ends would
not do: where all are of one length they end in waves of as many as run at a time, and a window of a few waves holds
one wave more or less.
"""

from collections.abc import Sequence

from benchmarks.metrics import Outcome, Slo


def goodput(outcomes: Sequence[Outcome], slo: Slo, since: float, until: float) -> float:
    """Answers within the SLO, per second of the window. `since` and `until` in seconds from the start of the block."""
    made = 0.0
    for item in outcomes:
        if item.meets(slo) and item.times:
            due = item.start - item.send_lag
            made += sum(since < due + time <= until for time in item.times) / len(item.times)
    return made / (until - since)


def steady(outcomes: Sequence[Outcome], concurrency: int) -> tuple[float, float]:
    """The window of a closed loop in which all places were taken, once each had an answer: up to the last call.

    Both ends are ends of answers, so what comes in waves is cut at whole ones. Seconds from the start of the block.
    """
    ends = sorted(item.start + item.e2el for item in outcomes)
    return ends[concurrency - 1], max(item.start for item in outcomes)


def closed_loop(outcomes: Sequence[Outcome], concurrency: int) -> float:
    """Answers per second of a closed loop, whatever the SLO."""
    return goodput(outcomes, Slo(), *steady(outcomes, concurrency))
