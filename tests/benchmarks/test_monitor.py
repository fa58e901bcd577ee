"""What makes a block void."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.block import count_mismatch, send_lag, unexplained
from benchmarks.client import Call
from benchmarks.metrics import Slo
from benchmarks.monitor import Health, Limits, Monitor, cpu_times
from tests.benchmarks.test_capacity import answer


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (Health(0.051, 1.0, 0.0, []), "client used 5.1% of a core"),
        (Health(0.01, 5.1, 0.0, []), "loop lag p99 5.1 ms"),
        (Health(0.01, 1.0, 0.03, []), "steal 3.0%"),
    ],
)
def test_limits(health: Health, reason: str) -> None:
    (found,) = health.voided(Limits())
    assert reason in found
    assert Health(0.05, 5.0, 0.02, []).voided(Limits()) == []


def test_a_busy_loop_is_seen() -> None:
    async def block() -> Health:
        async with Monitor() as monitor:
            for _ in range(5):
                time.sleep(0.06)  # the fault itself: something that holds the loop
                await asyncio.sleep(0.03)
        return monitor.health()

    health = asyncio.run(block())
    assert health.loop_lag_p99_ms > 20 and "loop lag" in "".join(health.voided(Limits()))


def test_steal_is_the_eighth_number_of_proc_stat(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 1 50 800 9 0 10 30 7 7\ncpu0 1 1 1 1\n")
    assert cpu_times(stat) == (30, 1000)
    assert cpu_times(tmp_path / "none") == (0, 1)


def test_late_sending_is_judged_by_the_slo() -> None:

    items = [replace(item, send_lag=0.005) for item in [answer(1, 0.1, 0.2)] * 10]
    assert send_lag(items, Slo(), Limits()) == []
    assert send_lag(items, Slo(ttft=0.2), Limits()) == ["send lag p99 5.0 ms, over 2.0 ms"]


def test_failures_nobody_explained() -> None:
    broken = replace(answer(1, 0, 0), error="cut", explained=False)
    assert unexplained([broken]) == ["1 requests failed without an explanation: cut"]
    assert unexplained([replace(broken, explained=True)]) == []


@pytest.mark.parametrize(
    ("call", "reasons"),
    [
        (Call("/", b"", 9, 4), []),
        (Call("/", b"", None, None), []),
        (Call("/", b"", 8, 4), ["the server counted 9 input tokens where 8 were sent"]),
        (Call("/", b"", 9, 5), ["the server counted 4 output tokens where 5 were asked for"]),
    ],
)
def test_the_servers_counts_are_checked(call: Call, reasons: list[str]) -> None:
    item = replace(answer(1, 0, 0), input_tokens=9, output_tokens=4)
    assert count_mismatch([call], [item]) == reasons
