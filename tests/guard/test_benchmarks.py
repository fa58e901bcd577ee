"""The arithmetic of the guard's benchmarks: overload, soak, and the server without the guard."""

import json
import os
import socket
from dataclasses import asdict
from xml.etree import ElementTree

import pytest

from benchmarks.goodput import closed_loop, goodput
from benchmarks.metrics import Outcome, Slo
from benchmarks.overload import Capacity, Load, listening, ratios, refused
from benchmarks.soak import Sample, chart, growth
from benchmarks.systems import Recipe
from benchmarks.unguarded import job, without_guard
from benchmarks.workload import out_of_step, synthetic
from serving.job import Job


def answered(start: float, e2el: float, ttft: float = 1.0, error: str = "", send_lag: float = 0.0) -> Outcome:
    """An answer of ten tokens, evenly from `ttft` on."""
    return Outcome(
        start=start,
        send_lag=send_lag,
        ttft=ttft,
        slo_ttft=ttft + send_lag,
        tpot=0.0,
        e2el=e2el,
        slo_e2el=e2el + send_lag,
        gaps=[],
        times=[send_lag + ttft + (e2el - ttft) * number / 9 for number in range(10)],
        pieces=10,
        input_tokens=1,
        output_tokens=10,
        text="x",
        error=error,
        explained=True,
    )


def load(multiple: float, before: float, after: float, made: float, others: float = 0.0) -> Load:
    """On a machine on which the narrower loop does a little more."""
    sides = Capacity((before, before - 0.1), 0.0), Capacity((after, after - 0.1), others)
    return Load(multiple, *sides, 2 * before, made, 10, 0, 0, (1.0, 2.0, 3.0), 0.002, 0.1, 0.1)


def test_goodput_is_what_came_in_time_while_the_load_was_on() -> None:
    outcomes = [
        answered(0, 4),  # before the count begins
        answered(2, 4),  # two tokens of ten after it has begun
        answered(8, 1.5, ttft=0.5),
        answered(9, 10),  # the first token at the end of the load, the others after it
        answered(3, 4, ttft=3.0),  # too late for the SLO
        answered(3, 4, error="HTTP 503: overloaded"),
    ]
    assert goodput(outcomes, Slo(ttft=2.0), 5.1, 10.0) == pytest.approx((0.3 + 1 + 0.1) / 4.9)


def test_a_token_counts_when_it_came_however_late_its_request_was_sent() -> None:
    assert goodput([answered(2.5, 1, ttft=0.5, send_lag=0.5)], Slo(), 2.9, 3.6) == pytest.approx(1 / 0.7)


@pytest.mark.parametrize("places", [32, 64])
def test_the_capacity_of_a_loop_whose_answers_end_in_waves(places: int) -> None:
    """32 answers at a time take 2 s; each of the `places` asks again when it has its answer."""
    outcomes = []
    for wave in range(10):
        asked = max(0, wave - places // 32 + 1)
        outcomes += [answered(2 * asked, 2 * (wave - asked) + 2, ttft=2 * (wave - asked) + 0.5) for _ in range(32)]
    assert closed_loop(outcomes, places) == pytest.approx(16)


def test_a_load_on_a_machine_that_changed_is_shown_but_does_not_count() -> None:
    loads = [load(2, 10, 10, 9.6), load(2, 10, 10.5, 10), load(2, 10, 8, 5), load(4, 10, 10, 10)]
    loads.append(load(2, 10, 10, 5, others=0.3))
    assert [item.void for item in loads] == [False, False, True, False, True]
    found = ratios(loads)
    assert found[2].pairs == 2
    assert found[2].value == pytest.approx((9.6 / 10 * 10 / 10.25) ** 0.5)
    assert found[2].low < found[2].value < found[2].high
    assert Load.from_json(json.dumps(asdict(loads[0]))) == loads[0]


def test_a_refusal_is_no_failure() -> None:
    assert refused(answered(0, 0, error='HTTP 503: {"error": {"code": "overloaded"}}'))
    assert not refused(answered(0, 0, error='HTTP 503: {"error": {"code": "draining"}}'))
    assert not refused(answered(0, 0, error="ClientOSError: overloaded"))


def test_the_process_behind_an_address_of_this_machine_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        process = listening(url)
        assert process is not None
        assert process.pid == os.getpid()
    assert listening(url) is None
    assert listening("http://192.0.2.1:80") is None


def test_growth_compares_the_last_quarter_with_the_second() -> None:
    samples = [Sample(0, 1.0, 900, 1.0)] * 2 + [Sample(1, 100.0, 40, 10.0)] * 4 + [Sample(2, 150.0, 40, 5.0)] * 2
    assert growth(samples) == {"memory_mb": 1.5, "descriptors": 1.0, "latency_ms": 0.5}


def test_the_picture_of_a_soak_is_an_svg_file_with_a_line_of_few_points_for_each_figure() -> None:
    samples = [Sample(number / 12, 4000 + number, 60, 900 - number) for number in range(240)]
    drawn = ElementTree.fromstring(chart(samples))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    lines = [line.get("points", "").split() for line in drawn.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(line) for line in lines] == [120, 120, 120]
    heights = [[float(point.split(",")[1]) for point in line] for line in lines]
    assert heights[0] == sorted(heights[0], reverse=True)
    assert len(set(heights[1])) == 1
    assert heights[2] == sorted(heights[2])


def test_only_the_guards_words_are_left_out() -> None:
    assert without_guard(["--a", "1", "--middleware", "serving.guard.Guard", "--b"]) == ["--a", "1", "--b"]
    with pytest.raises(ValueError, match="not in"):
        without_guard(["--a", "1"])
    with pytest.raises(ValueError, match="does not follow"):
        without_guard(["--x", "serving.guard.Guard"])


def test_the_unguarded_server_takes_its_job() -> None:
    found = Recipe("folder", ("--port", "1", "--middleware", "serving.guard.Guard"), {})
    taken = Job.from_json(json.dumps(job(found, "8000", "served", 3)))
    assert taken.args == ("--port", "1", "--served-model-name", "served")


def test_a_loop_begins_out_of_step() -> None:
    lengths = [each.output_tokens for each in out_of_step(synthetic(6, 5, 32, 0), 4)]
    assert lengths == [8, 16, 24, 32, 32, 32]
    assert [each.output_tokens for each in out_of_step(synthetic(3, 5, 1, 0), 3)] == [1, 1, 1]
