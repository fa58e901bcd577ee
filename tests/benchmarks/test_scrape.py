"""The server's own timers and gauges, from its text to where the time of an answer goes."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.block import run_block
from benchmarks.breakdown import breakdown, floor
from benchmarks.client import Server
from benchmarks.fake_server import MODEL, Behaviour, running
from benchmarks.metrics import Slo
from benchmarks.scrape import served, totals
from benchmarks.workload import synthetic
from tests.benchmarks.conftest import TOLERANT
from tests.benchmarks.test_roofline import TINY

# As vLLM 0.29 and the guard print them.
TEXT = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a{b}"} 3.0
vllm:num_requests_running{engine="1",model_name="a{b}"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a{b}"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="a{b}"} 0.25
vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="a{b}"} 7.0
vllm:request_queue_time_seconds_count{engine="0",model_name="a{b}"} 8.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="a{b}"} 4.5e-05
xuanyuan_request_seconds_count{route="/metrics"} 100.0
xuanyuan_request_seconds_count{route="/v1/completions"} 8.0
xuanyuan_request_seconds_sum{route="/v1/completions"} 16.0
process_cpu_seconds_total 12.5
"""


def test_values_are_added_up_over_labels_and_the_guards_over_the_routes_of_the_load() -> None:
    assert totals(TEXT) == {
        "vllm:num_requests_running": 5.0,
        "vllm:num_requests_waiting": 1.0,
        "vllm:kv_cache_usage_perc": 0.25,
        "vllm:request_queue_time_seconds_count": 8.0,
        "vllm:request_queue_time_seconds_sum": 4.5e-05,
        "xuanyuan_request_seconds_count": 8.0,
        "xuanyuan_request_seconds_sum": 16.0,
    }


def test_means_are_of_the_block_alone() -> None:
    before = TEXT.replace(b'count{route="/v1/completions"} 8.0', b'count{route="/v1/completions"} 6.0').replace(
        b"} 16.0", b"} 13.0"
    )
    found = served([(10**9, before), (3 * 10**9, TEXT)], 10**9)
    assert found is not None
    # Three seconds over two requests; nothing was queued anew, so of the queue nothing is known.
    assert found.means == {"guard_e2e_s": 1.5}
    assert [moment.at for moment in found.moments] == [0.0, 2.0]


def test_a_server_without_metrics_says_nothing() -> None:
    assert served([], 0) is None


def test_a_block_is_told_by_the_server_too() -> None:
    """Two places, four requests at a time: half of the time is spent waiting."""
    calls = [question.call(MODEL, ignore_eos=True) for question in synthetic(8, 5, 101, 0)]
    # 400 ms for two of them: the look after a second is in the middle of the third two.
    with running(Behaviour(2, 0.1, 0.003)) as url:
        block = run_block(Server(url), calls, concurrency=4, slo=Slo(), limits=TOLERANT, scrape=True)
    assert block.served is not None
    means, moments = block.served.means, block.served.moments
    # 100 ms to the first token, and 300 ms for the others; the first two did not wait.
    assert means["prefill_s"] == pytest.approx(0.1) and means["decode_s"] == pytest.approx(0.3, abs=0.1)
    assert means["queue_s"] == pytest.approx(0.3, abs=0.1)
    assert (2, 2) in {(moment.running, moment.waiting) for moment in moments}
    assert len(moments) >= 3 and moments[-1].running == 0
    parts = breakdown(means | {"client_e2e_s": block.summary()["mean_e2el_ms"] / 1000}, 0.3, 0.0)
    assert parts["ceiling"] == 0.3 and parts["queue"] == means["queue_s"] and 0 <= parts["http"] < 0.1


def test_without_scraping_nothing_is_asked(fake_url: str) -> None:
    calls = [question.call(MODEL, ignore_eos=True) for question in synthetic(1, 5, 2, 0)]
    assert run_block(Server(fake_url), calls, slo=Slo(), limits=TOLERANT).served is None


TIMES = {
    "prefill_s": 1.0,
    "decode_s": 3.0,
    "queue_s": 0.5,
    "engine_e2e_s": 4.7,
    "guard_e2e_s": 5.0,
    "client_e2e_s": 5.2,
}


def test_the_parts_add_up_to_what_the_client_saw() -> None:
    parts = breakdown(TIMES, 2.5, 0.1)
    expected = {"ceiling": 2.5, "engine": 1.5, "queue": 0.5, "http": 0.4, "guard": 0.1, "client": 0.2}
    assert parts == pytest.approx(expected) and sum(parts.values()) == pytest.approx(5.2)
    without = {key: value for key, value in TIMES.items() if key != "guard_e2e_s"}
    bare = breakdown(without, None, 0.1)
    assert bare == pytest.approx({"ceiling": 0, "engine": 4, "queue": 0.5, "http": 0.7})


def test_the_floor_of_an_answer_counted_by_hand() -> None:
    """88 bytes/s and 88 operations/s: a prompt of 2 reads 88 bytes and its cache twice, and computes 172."""
    limits = {"bandwidth_gb_s": 88e-9, "gemm_gflop_s": 88e-9}
    prefill = max((88 + 2 * 8 * 2) / 88, (2 * 34 * 2 + 20 + 8 * 2) / 88)
    # Three sequences of 2 + 4/2 tokens: 88 + 8 x 3 x 5 bytes; 2 x 44 x 3 + 8 x 3 x 4 operations.
    step = max(208 / 88, 360 / 88)
    assert floor(TINY, limits, 3, 2, 4) == pytest.approx(3 * prefill + 3 * step)


def test_the_recorded_text_is_what_the_package_prints() -> None:
    """The names in TEXT are vLLM's own."""
    found = find_spec("vllm")
    assert found and found.origin
    source = (Path(found.origin).parent / "v1" / "metrics" / "loggers.py").read_text(encoding="utf-8")
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "num_preemptions"):
        assert f'"vllm:{name}"' in source
