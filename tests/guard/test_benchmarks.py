"""The arithmetic of the guard's benchmarks: overload, soak, and the server without the guard."""

from argparse import Namespace

import pytest

from benchmarks.metrics import Outcome, Slo
from benchmarks.overload import goodput, refused
from benchmarks.soak import Sample, growth, page
from benchmarks.unguarded import without_guard


def answered(start: float, e2el: float, ttft: float = 1.0, error: str = "") -> Outcome:
    """An answer of a few tokens, sent when it was due."""
    return Outcome(
        start=start,
        send_lag=0.0,
        ttft=ttft,
        slo_ttft=ttft,
        tpot=0.0,
        e2el=e2el,
        slo_e2el=e2el,
        gaps=[],
        times=[],
        pieces=1,
        input_tokens=1,
        output_tokens=1,
        text="x",
        error=error,
        explained=True,
    )


def test_goodput_is_what_was_answered_in_time_while_the_load_was_on() -> None:
    outcomes = [
        answered(0, 4),  # before the count begins
        answered(2, 4),
        answered(8, 2),
        answered(9, 2),  # after the load has ended
        answered(3, 4, ttft=3.0),  # too late for the SLO
        answered(3, 4, error="HTTP 503: overloaded"),
    ]
    assert goodput(outcomes, Namespace(slo=Slo(ttft=2.0), warm=5.0), until=10.0) == pytest.approx(2 / 5)


def test_a_refusal_is_no_failure() -> None:
    assert refused(answered(0, 0, error='HTTP 503: {"error": {"code": "overloaded"}}'))
    assert not refused(answered(0, 0, error='HTTP 503: {"error": {"code": "draining"}}'))
    assert not refused(answered(0, 0, error="ClientOSError: overloaded"))


def test_growth_compares_the_last_quarter_with_the_second() -> None:
    samples = [Sample(0, 1.0, 900, 1.0)] * 2 + [Sample(1, 100.0, 40, 10.0)] * 4 + [Sample(2, 150.0, 40, 5.0)] * 2
    assert growth(samples) == {"memory_mb": 1.5, "descriptors": 1.0, "latency_ms": 0.5}
    assert page(samples).count("<svg") == 3


def test_only_the_guards_words_are_left_out() -> None:
    assert without_guard(["--a", "1", "--middleware", "serving.guard.Guard", "--b"]) == ["--a", "1", "--b"]
    with pytest.raises(ValueError, match="not in"):
        without_guard(["--a", "1"])
    with pytest.raises(ValueError, match="does not follow"):
        without_guard(["--x", "serving.guard.Guard"])
