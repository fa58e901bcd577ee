"""What the server says of itself while a block runs: its /metrics, read once a second and parsed afterwards."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter_ns
from types import TracebackType
from typing import Any

import aiohttp

from benchmarks.sse import Read

EVERY_S = 1.0
# A server that is too busy to answer is asked again a second later.
TIMEOUT = aiohttp.ClientTimeout(total=5)
# vLLM's names; what is counted per request comes as _sum and _count.
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
KV_USE, PREEMPTIONS = "vllm:kv_cache_usage_perc", "vllm:num_preemptions_total"
TIMES = {
    "queue_s": "vllm:request_queue_time_seconds",
    "prefill_s": "vllm:request_prefill_time_seconds",
    "decode_s": "vllm:request_decode_time_seconds",
    "engine_e2e_s": "vllm:e2e_request_latency_seconds",
    "guard_e2e_s": "xuanyuan_request_seconds",
}
GAUGES = (RUNNING, WAITING, KV_USE, PREEMPTIONS)
SUMMED = tuple(f"{name}_{end}" for name in TIMES.values() for end in ("sum", "count"))
KEPT = {*GAUGES, *SUMMED}
# The guard counts every route; these are the ones that a load goes to.
LOADED_ROUTES = ('route="/v1/completions"', 'route="/v1/chat/completions"')


def totals(text: bytes) -> dict[str, float]:
    """The value of each metric in KEPT, added up over its labels (several engines, several routes)."""
    found: dict[str, float] = {}
    for line in text.decode(errors="replace").splitlines():
        name, brace, labels = line.partition("{")
        if not brace or name not in KEPT:
            continue
        if name.startswith("xuanyuan_") and not any(route in labels for route in LOADED_ROUTES):
            continue
        found[name] = found.get(name, 0.0) + float(labels.rpartition("}")[2])
    return found


@dataclass(frozen=True)
class Moment:
    """The engine at one moment, `at` seconds from the start of the block; `preemptions` since its start."""

    at: float
    running: float
    waiting: float
    kv_cache_usage: float
    preemptions: float


@dataclass(frozen=True)
class Served:
    """What the server says of a block. `means` are seconds a request, under the names of TIMES, as far as it has them.

    `moments` are about a second apart.
    """

    means: dict[str, float]
    moments: list[Moment]

    def as_dict(self) -> dict[str, Any]:
        return {"means": self.means, "moments": [list(asdict(moment).values()) for moment in self.moments]}


def served(scrapes: Sequence[Read], start: int) -> Served | None:
    """Parse what was read of a block that began at `start` (ns). None for a server that says nothing of this kind."""
    parsed = [(at, totals(text)) for at, text in scrapes]
    if len(parsed) < 2:
        return None
    before, after = parsed[0][1], parsed[-1][1]
    means = {}
    for key, name in TIMES.items():
        total, count = (after.get(end, 0.0) - before.get(end, 0.0) for end in (f"{name}_sum", f"{name}_count"))
        if count:
            means[key] = total / count
    moments = [
        Moment(
            round((at - start) / 1e9, 2),
            values.get(RUNNING, 0.0),
            values.get(WAITING, 0.0),
            values.get(KV_USE, 0.0),
            values.get(PREEMPTIONS, 0.0) - before.get(PREEMPTIONS, 0.0),
        )
        for at, values in parsed
    ]
    return Served(means, moments)


class Scraper:
    """`async with Scraper(session, url, wanted=True) as scraper:` reads /metrics around and in the block.

    A server without vLLM's metrics is asked once. Nothing that it answers is an error: it is not what is measured.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, *, wanted: bool) -> None:
        self.session, self.url, self.wanted = session, f"{url}/metrics", wanted
        self.reads: list[Read] = []
        self.task: asyncio.Task[None] | None = None

    async def read(self) -> bool:
        """Whether there was something to keep."""
        try:
            async with self.session.get(self.url, timeout=TIMEOUT) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        good = response.status == 200 and RUNNING.encode() in body
        if good:
            self.reads.append((perf_counter_ns(), body))
        return good

    async def forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.read()

    async def __aenter__(self) -> "Scraper":
        if self.wanted and await self.read():
            self.task = asyncio.create_task(self.forever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.task:
            self.task.cancel()
            await self.read()
