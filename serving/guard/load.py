"""How busy the server is, read out of the metrics of this process or, with several server processes, of all.

Counters only grow; what they did lately is the difference of two looks. So looks are kept: the newest that is at least
as old as a window is where that window begins; until there is one, it begins with the oldest.
"""

import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

RATE_WINDOW, DELAY_WINDOW = 2.0, 300.0  # seconds
RUNNING, WAITING, KV_CACHE = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"
GENERATED = "vllm:generation_tokens_total"
DELAYS = "xuanyuan_first_token_seconds_bucket"
REJECTIONS = "xuanyuan_rejections_total"
SAMPLES = (RUNNING, WAITING, KV_CACHE, GENERATED, DELAYS, REJECTIONS)
# Not refused by this server: the client left, or the engine reported an error of its own.
OTHER_ENDS = ("client_gone", "engine_error")


@dataclass
class Look:
    """The metrics at one moment. `delays` counts streams by the upper edge of their first token's time."""

    at: float
    gauges: Counter[str] = field(default_factory=Counter)
    engines: int = 0
    generated: float = 0.0
    delays: Counter[float] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        """Take in one sample."""
        if name == GENERATED:
            self.generated += value
        elif name == DELAYS:
            self.delays[float(labels["le"])] += int(value)
        elif name == REJECTIONS and labels["reason"] not in OTHER_ENDS:
            self.rejections[labels["reason"]] += int(value)
        elif name in (RUNNING, WAITING, KV_CACHE):
            self.gauges[name] += value  # type: ignore[assignment]
            self.engines += name == KV_CACHE


class Load:
    """Looks at the metrics, and what they say together. `started_at`: when all counters stood at nothing."""

    def __init__(self, started_at: float, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or default_registry()
        self.looks: deque[Look] = deque([Look(started_at)])

    def look(self, now: float) -> None:
        """Look once more, and forget looks that no window begins with any more."""
        look = Look(now)
        for sample in samples(self.registry):
            look.add(sample.name, sample.labels, sample.value)
        self.looks.append(look)
        while len(self.looks) > 2 and self.looks[1].at <= now - DELAY_WINDOW:
            self.looks.popleft()

    def since(self, window: float) -> Look:
        """Where a window begins that ends with the last look."""
        *earlier, last = self.looks
        old_enough = [look for look in earlier if look.at <= last.at - window]
        return old_enough[-1] if old_enough else earlier[0]

    def facts(self) -> dict[str, Any]:
        """What the last look says, as /status gives it. Times in seconds, shares from 0 to 1, null: nothing seen."""
        last, rate, delay = self.looks[-1], self.since(RATE_WINDOW), self.since(DELAY_WINDOW)
        grown = {edge: count - delay.delays[edge] for edge, count in last.delays.items()}
        return {
            "running": round(last.gauges[RUNNING]),
            "waiting": round(last.gauges[WAITING]),
            "kv_cache_usage": last.gauges[KV_CACHE] / max(1, last.engines),
            "tokens_per_second": round((last.generated - rate.generated) / max(last.at - rate.at, 0.001), 1),
            "first_token_seconds": {
                "p50": quantile(0.5, sorted(grown.items())),
                "p95": quantile(0.95, sorted(grown.items())),
                "window": round(last.at - delay.at, 1),
            },
            "rejections": dict(last.rejections),
        }


def samples(registry: CollectorRegistry) -> Iterable[Any]:
    """The samples of interest. A collector that reads other processes' files gives all or nothing."""
    chosen = registry if isinstance(registry, AllProcesses) else registry.restricted_registry(SAMPLES)
    return (sample for metric in chosen.collect() for sample in metric.samples)


class AllProcesses(CollectorRegistry):
    """The metrics of all server processes, out of PROMETHEUS_MULTIPROC_DIR."""

    def __init__(self) -> None:
        super().__init__()
        MultiProcessCollector(self)  # type: ignore[no-untyped-call]


def default_registry() -> CollectorRegistry:
    """Where this server's metrics are: what /metrics shows."""
    return AllProcesses() if "PROMETHEUS_MULTIPROC_DIR" in os.environ else REGISTRY


def quantile(share: float, cumulative: Sequence[tuple[float, int]]) -> float | None:
    """A quantile out of a histogram's edges and counts, with values spread evenly in each bucket. None: no values."""
    total = cumulative[-1][1] if cumulative else 0
    if total <= 0:
        return None
    wanted = share * total
    for (low, below), (edge, count) in pairwise([(0.0, 0), *cumulative]):
        if count >= wanted:
            inside = (wanted - below) / (count - below) if count > below else 0.0
            return round(low if edge == float("inf") else low + (edge - low) * inside, 4)
    return None
