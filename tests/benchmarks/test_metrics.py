"""Numbers out of recorded exchanges whose times are known."""

import json

import pytest

from benchmarks.client import Call, Exchange
from benchmarks.metrics import Outcome, Slo, fluidity, outcome, summary

CALL = Call("/v1/completions", b"{}", 5, 4)
MS = 1_000_000


def event(text: str, reason: str | None = None) -> bytes:
    return b"data: " + json.dumps({"choices": [{"text": text, "finish_reason": reason}]}).encode() + b"\n\n"


def usage(completion: int) -> bytes:
    return b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":%d}}\n\ndata: [DONE]\n\n' % completion


def answered(*reads: tuple[int, bytes], tokens: int, intended: int = 0, sent: int = 0) -> Outcome:
    """An exchange whose reads came at these ms."""
    exchange = Exchange(CALL, intended * MS, sent * MS, status=200, end=reads[-1][0] * MS)
    exchange.reads = [(at * MS, data) for at, data in reads]
    exchange.reads.append((exchange.end, usage(tokens)))
    return outcome(exchange, 0)


def test_one_token_a_read() -> None:
    item = answered((50, event("a")), (60, event("b")), (70, event("c")), (90, event("d", "length")), tokens=4)
    assert (item.ttft, item.e2el, item.tpot) == pytest.approx((0.050, 0.090, 0.040 / 3))
    assert item.gaps == pytest.approx([0.010, 0.010, 0.020])
    assert item.tokens_are_pieces and item.ok


def test_tokens_that_came_with_the_first_are_not_part_of_the_pace() -> None:
    item = answered((50, event("a") + event("b")), (70, event("c") + event("d", "length")), tokens=4)
    assert item.tpot == pytest.approx(0.020 / 2)
    assert item.gaps == pytest.approx([0.020])


def test_a_server_that_counts_with_every_event_is_believed() -> None:
    """Three tokens in the first event, one in the second: one token in 20 ms."""
    counted = event("abc").replace(b"}]}", b'}],"usage":{"prompt_tokens":5,"completion_tokens":3}}')
    item = answered((50, counted), (70, event("d", "length")), tokens=4)
    assert item.tpot == pytest.approx(0.020)


def test_the_first_token_is_the_first_with_content() -> None:
    item = answered((50, event("")), (60, event("a")), (80, event("b", "length")), tokens=3)
    assert (item.ttft, item.tpot) == pytest.approx((0.060, 0.020))


def test_a_chunk_of_many_tokens_makes_no_itl() -> None:
    item = answered((50, event("a")), (90, event("bcde", "length")), tokens=5)
    assert item.tpot == pytest.approx(0.010)
    assert "mean_itl_ms" not in summary([item], 1.0, Slo())
    assert summary([item], 1.0, Slo())["mean_chunk_gap_ms"] == pytest.approx(40)


def test_the_slo_runs_from_the_time_due() -> None:
    item = answered((1050, event("a", "stop")), tokens=1, intended=0, sent=1000)
    assert (item.ttft, item.slo_ttft, item.send_lag) == pytest.approx((0.050, 1.050, 1.0))
    assert not item.meets(Slo(ttft=0.2)) and item.meets(Slo(ttft=1.1))


@pytest.mark.parametrize(
    ("status", "reads", "broken", "text", "explained"),
    [
        (429, [b'{"error": "slow down"}'], "", "HTTP 429", True),
        (200, [event("a")], "ClientPayloadError: cut", "ClientPayloadError", False),
        (200, [event("a")], "", "the stream ended without an end", False),
        (200, [b"data: [DONE]\n\n"], "", "the stream held no tokens", False),
        (200, [b'data: {"error":{"message":"engine is dead"}}\n\n'], "", "engine is dead", True),
        (200, [b'data: {"choi'], "", "not JSON", False),
        (0, [], "ClientConnectorError: refused", "ClientConnectorError", False),
    ],
)
def test_failures(status: int, reads: list[bytes], broken: str, text: str, explained: bool) -> None:
    exchange = Exchange(CALL, 0, 0, status=status, error=broken, end=5, reads=[(1, read) for read in reads])
    item = outcome(exchange, 0)
    assert item.error.startswith(text) and item.explained is explained
    assert not item.meets(Slo()) and summary([item], 1.0, Slo())["failed"] == 1


def test_summary_has_the_names_and_sums_of_vllm_bench() -> None:
    items = [answered((50, event("a")), (60, event("b", "length")), tokens=2) for _ in range(4)]
    row = summary(items, 2.0, Slo(ttft=0.1))
    assert (row["completed"], row["total_input_tokens"], row["total_output_tokens"]) == (4, 20, 8)
    assert (row["request_throughput"], row["output_throughput"], row["total_token_throughput"]) == (2.0, 4.0, 14.0)
    assert (row["mean_ttft_ms"], row["p99_ttft_ms"], row["mean_tpot_ms"]) == pytest.approx((50, 50, 10))
    assert (row["request_goodput"], row["max_output_tokens_per_s"], row["max_concurrent_requests"]) == (2.0, 8, 4)


@pytest.mark.parametrize(
    ("times", "index"),
    [
        ([0.10, 0.20, 0.30], 1.0),
        ([0.05, 0.06, 0.29], 1.0),  # ahead, so it may pause
        ([0.10, 0.35, 0.44], 2 / 4),  # 150 ms late misses two deadlines, and the next is due 100 ms after
        ([0.25, 0.35], 1 / 3),
        ([], 0.0),
    ],
)
def test_fluidity(times: list[float], index: float) -> None:
    assert fluidity(times, ttft=0.101, tpot=0.1) == pytest.approx(index)
