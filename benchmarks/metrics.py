"""From recorded exchanges to numbers, under the names that `vllm bench serve` gives them where it has them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, pstdev
from typing import Any

from benchmarks.client import Exchange
from benchmarks.sse import Answer, parse
from benchmarks.stats import percentile, wilson

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True)
class Slo:
    """The service level objective of one request, in seconds; infinite where nothing is asked.

    `ttft` and `e2el` run from the time the request was due, not from when the client got round to sending it
    (coordinated omission); `tpot` is the mean time of a token after the first.
    """

    ttft: float = float("inf")
    tpot: float = float("inf")
    e2el: float = float("inf")


@dataclass(frozen=True)
class Outcome:
    """One request in seconds. `start` counts from the start of the block; what begins with `slo_` from the time due.

    `gaps` are the times between reads that brought tokens, and `pieces` how many events brought any: only where there
    are as many pieces as tokens is a gap the time of a token. `explained` tells failures that the server gave a reason
    for from those that nobody did; `reconnects`, how often it was sent again.
    """

    start: float
    send_lag: float
    ttft: float
    slo_ttft: float
    tpot: float
    e2el: float
    slo_e2el: float
    gaps: list[float]
    times: list[float]
    pieces: int
    input_tokens: int
    output_tokens: int
    text: str
    error: str
    explained: bool
    reconnects: int = 0

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def tokens_are_pieces(self) -> bool:
        return self.pieces == self.output_tokens

    def meets(self, slo: Slo) -> bool:
        """Whether the request was answered within the SLO; a failed one was not."""
        return self.ok and self.slo_ttft <= slo.ttft and self.tpot <= slo.tpot and self.slo_e2el <= slo.e2el


def failure(exchange: Exchange, answer: Answer) -> tuple[str, bool]:
    """(what went wrong or "", whether the server explained it)."""
    if exchange.error:
        return exchange.error, False
    if exchange.status != 200:
        body = b"".join(chunk for _, chunk in exchange.reads).decode(errors="replace")
        return f"HTTP {exchange.status}: {body[:300]}", True
    if answer.error:
        return answer.error, not answer.error.startswith("not JSON")
    if not answer.complete or not answer.pieces:
        return "the stream ended without an end" if answer.pieces else "the stream held no tokens", False
    return "", True


def outcome(exchange: Exchange, block_start: int) -> Outcome:
    """Parse one exchange and take its times. A failed one keeps its reason and has no latencies."""
    answer = parse(exchange.reads) if exchange.status == 200 else Answer()
    error, explained = failure(exchange, answer)
    pieces = answer.pieces
    first = next((at for at, text, _ in pieces if text), pieces[0][0] if pieces else exchange.end)
    last = pieces[-1][0] if pieces else exchange.end
    output_tokens = answer.output_tokens or len(pieces)
    # What came with the first content was not waited for one by one: its tokens are not part of the pace.
    come = [counted for at, _, counted in pieces if at <= first]
    with_first = max(come, default=0) or len(come)
    reads = sorted({at for at, _, _ in pieces})
    return Outcome(
        start=(exchange.sent - block_start) / 1e9,
        send_lag=(exchange.sent - exchange.intended) / 1e9,
        ttft=(first - exchange.sent) / 1e9,
        slo_ttft=(first - exchange.intended) / 1e9,
        tpot=(last - first) / 1e9 / (output_tokens - with_first) if output_tokens > with_first else 0.0,
        e2el=(last - exchange.sent) / 1e9,
        slo_e2el=(last - exchange.intended) / 1e9,
        gaps=[(after - before) / 1e9 for before, after in pairwise(reads)],
        times=[(at - exchange.intended) / 1e9 for at, _, _ in pieces],
        pieces=len(pieces),
        input_tokens=answer.input_tokens or exchange.call.input_tokens or 0,
        output_tokens=output_tokens,
        text=answer.text,
        error=error,
        explained=explained,
        reconnects=exchange.reconnects,
    )


def fluidity(times: Sequence[float], ttft: float, tpot: float) -> float:
    """The share of token deadlines met: the fluidity index (Agrawal et al., arXiv:2407.07000).

    `times` are seconds since the request was due. The first token is due after `ttft`, each later one `tpot` after the
    one before was due, so that a server that is ahead may pause. A late token misses every deadline that passed while
    the reader waited, and the next one is due `tpot` after it.
    """
    met = missed = 0
    due = ttft
    for time in times:
        if time <= due:
            met += 1
        else:
            missed += 1 + int((time - due) / tpot)
            due = time
        due += tpot
    return met / (met + missed) if times else 0.0


def distribution(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """mean, median, std and percentiles in ms as `mean_ttft_ms`, `p99_ttft_ms` …"""
    values = [1000 * value for value in seconds] or [0.0]
    row = {f"mean_{name}_ms": fmean(values), f"median_{name}_ms": median(values), f"std_{name}_ms": pstdev(values)}
    return row | {f"p{percent}_{name}_ms": percentile(values, percent) for percent in PERCENTILES}


def peaks(outcomes: Sequence[Outcome]) -> tuple[float, int]:
    """(most tokens in one second, most requests that ran in one second), by whole seconds as `vllm bench` counts."""
    tokens: Counter[int] = Counter()
    running: Counter[int] = Counter()
    for item in outcomes:
        due = item.start - item.send_lag
        tokens.update(int(due + time) for time in item.times)
        running.update(range(int(item.start), int(item.start + item.e2el) + 1))
    return float(max(tokens.values(), default=0)), max(running.values(), default=0)


def summary(outcomes: Sequence[Outcome], duration: float, slo: Slo) -> dict[str, Any]:
    """The result of one block. `duration` in seconds, from its start to its last answer."""
    good = [item for item in outcomes if item.ok]
    inputs, outputs = sum(item.input_tokens for item in good), sum(item.output_tokens for item in good)
    met = sum(item.meets(slo) for item in outcomes)
    most_tokens, most_running = peaks(good)
    gaps = [gap for item in good for gap in item.gaps]
    row: dict[str, Any] = {
        "duration": duration,
        "completed": len(good),
        "failed": len(outcomes) - len(good),
        "reconnects": sum(item.reconnects for item in outcomes),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": len(good) / duration,
        "request_goodput": met / duration if slo != Slo() else None,
        "output_throughput": outputs / duration,
        "total_token_throughput": (inputs + outputs) / duration,
        "max_output_tokens_per_s": most_tokens,
        "max_concurrent_requests": most_running,
        "attainment": met / len(outcomes),
        "attainment_interval": wilson(met, len(outcomes)),
        "send_lag_p99_ms": 1000 * percentile([item.send_lag for item in outcomes], 99),
    }
    for name in ("ttft", "slo_ttft", "e2el", "slo_e2el"):
        row |= distribution(name, [getattr(item, name) for item in good])
    row |= distribution("tpot", [item.tpot for item in good if item.output_tokens > 1])
    row |= distribution("chunk_gap", gaps)
    if good and all(item.tokens_are_pieces for item in good):
        row |= distribution("itl", gaps)
    if slo.tpot < float("inf"):
        row["fluidity_index"] = fmean(fluidity(item.times, slo.ttft, slo.tpot) for item in good) if good else 0.0
    return row


def details(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """One entry a request, under `vllm bench`'s names (`--save-detailed`)."""
    return {
        "input_lens": [item.input_tokens for item in outcomes],
        "output_lens": [item.output_tokens if item.ok else 0 for item in outcomes],
        "ttfts": [item.ttft for item in outcomes],
        "itls": [item.gaps for item in outcomes],
        "start_times": [item.start for item in outcomes],
        "generated_texts": [item.text for item in outcomes],
        "errors": [item.error for item in outcomes],
    }
