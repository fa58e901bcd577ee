"""The timers of the real engine and of the guard in front of it, as the report takes them apart."""

import pytest

from benchmarks.block import run_block
from benchmarks.breakdown import breakdown, means
from benchmarks.client import Server
from benchmarks.metrics import Slo
from benchmarks.options import first_model
from benchmarks.workload import synthetic
from tests.benchmarks.conftest import TOLERANT
from tests.server_process import ServerProcess


@pytest.mark.live
@pytest.mark.engine
def test_what_the_real_server_says_of_a_block_adds_up(demo_server: ServerProcess) -> None:
    server = Server(demo_server.url)
    model = first_model(server)
    calls = [question.call(model, ignore_eos=True) for question in synthetic(4, 50, 16, 7)]
    block = run_block(server, calls, concurrency=2, slo=Slo(), limits=TOLERANT, scrape=True)
    assert block.void == [] and block.served is not None
    assert max(moment.running for moment in block.served.moments) <= 2
    times = means([block.summary()])
    assert times is not None and (times["prompt"], times["answer"]) == (50, 16)
    # From the inside out: what each clock saw contains what the next one inside did.
    inside = times["queue_s"] + times["prefill_s"] + times["decode_s"]
    assert 0 < inside <= times["engine_e2e_s"] <= times["guard_e2e_s"] <= times["client_e2e_s"] * 1.02
    parts = breakdown(times, None, 0.0)
    assert sum(parts.values()) == pytest.approx(times["client_e2e_s"])
