"""One block of load, from calls to a verdict: run it, parse it, sum it up, and say whether it may be believed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.client import Call, Server, record
from benchmarks.metrics import Outcome, Slo, outcome, summary
from benchmarks.monitor import Health, Limits
from benchmarks.scrape import Served, served
from benchmarks.stats import percentile

DEFAULT_TTFT_S = 1.0


@dataclass(frozen=True)
class Block:
    """A measured block. `void` lists the reasons not to believe it; it is shown all the same.

    `served` is what the server says of it, where it says anything.
    """

    outcomes: list[Outcome]
    duration: float
    health: Health
    slo: Slo
    void: list[str]
    served: Served | None = None

    def summary(self) -> dict[str, Any]:
        return summary(self.outcomes, self.duration, self.slo) | {
            "void": self.void,
            "client": self.health.as_dict(),
            "server": self.served.as_dict() if self.served else None,
        }


def count_mismatch(calls: Sequence[Call], outcomes: Sequence[Outcome]) -> list[str]:
    """The server must have counted as many tokens as were sent and asked for, where these numbers are known."""
    reasons = []
    for kind, does in (("input_tokens", "sent"), ("output_tokens", "asked for")):
        pairs = [
            (getattr(call, kind), getattr(item, kind)) for call, item in zip(calls, outcomes, strict=True) if item.ok
        ]
        wrong = [(known, counted) for known, counted in pairs if known is not None and known != counted]
        if wrong:
            reasons.append(f"the server counted {wrong[0][1]} {kind.replace('_', ' ')} where {wrong[0][0]} were {does}")
    return reasons


def unexplained(outcomes: Sequence[Outcome]) -> list[str]:
    failed = [item.error for item in outcomes if not item.ok and not item.explained]
    return [f"{len(failed)} requests failed without an explanation: {failed[0]}"] if failed else []


def send_lag(outcomes: Sequence[Outcome], slo: Slo, limits: Limits) -> list[str]:
    """Requests must leave when they are due: within 1 % of the TTFT that is asked for."""
    allowed = limits.send_lag_of_ttft * min(slo.ttft, DEFAULT_TTFT_S)
    found = percentile([item.send_lag for item in outcomes], 99)
    return [f"send lag p99 {1000 * found:.1f} ms, over {1000 * allowed:.1f} ms"] if found > allowed else []


def run_block(
    server: Server,
    calls: Sequence[Call],
    *,
    times: Sequence[float] | None = None,
    concurrency: int = 1,
    slo: Slo,
    limits: Limits,
    scrape: bool = False,
) -> Block:
    """Run one block to its end, and read the server's metrics meanwhile if `scrape`.

    Takes a new event loop, so that blocks share nothing.
    """
    recording = asyncio.run(record(server, calls, times=times, concurrency=concurrency, scrape=scrape))
    outcomes = [outcome(exchange, recording.start) for exchange in recording.exchanges]
    sent = [exchange.call for exchange in recording.exchanges]
    void = [
        *recording.health.voided(limits),
        *send_lag(outcomes, slo, limits),
        *unexplained(outcomes),
        *count_mismatch(sent, outcomes),
    ]
    said = served(recording.scrapes, recording.start)
    return Block(outcomes, (recording.end - recording.start) / 1e9, recording.health, slo, void, said)
