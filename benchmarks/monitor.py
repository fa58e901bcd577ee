"""Watch the client and the machine while a block runs, and say which blocks must not be believed."""

import asyncio
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.stats import percentile

TICK_S = 0.02
SAMPLE_S = 1.0


@dataclass(frozen=True)
class Limits:
    """What a block may show before it is void. Raise `client_cpu` where the client has cores of its own.

    `others` is the share of one core that programs take which are neither the client nor the server under test; it is
    known only for servers that are started here.
    """

    client_cpu: float = 0.05
    loop_lag_ms: float = 5.0
    steal: float = 0.02
    send_lag_of_ttft: float = 0.01
    others: float = 0.2


@dataclass(frozen=True)
class Health:
    """The client's own state over a block: share of one core, lag of its event loop, share of stolen machine time.

    `samples` are (seconds from the start, share of a core, share stolen), about one a second.
    """

    client_cpu: float
    loop_lag_p99_ms: float
    steal: float
    samples: list[tuple[float, float, float]]

    def voided(self, limits: Limits) -> list[str]:
        """Why the block is void, as far as the client and the machine are the reason."""
        found = {
            "client used {:.1%} of a core, over {:.0%}": (self.client_cpu, limits.client_cpu),
            "client's loop lag p99 {:.1f} ms, over {:.0f}": (self.loop_lag_p99_ms, limits.loop_lag_ms),
            "steal {:.1%}, over {:.0%}": (self.steal, limits.steal),
        }
        return [text.format(value, limit) for text, (value, limit) in found.items() if value > limit]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cpu_times(stat: Path = Path("/proc/stat")) -> tuple[int, int]:
    """(stolen, all) clock ticks of the whole machine since it started; (0, 1) where there is no /proc."""
    if not stat.exists():
        return 0, 1
    # user nice system idle iowait irq softirq steal; guest time is contained in user time (proc(5)).
    ticks = [int(word) for word in stat.read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)


class Monitor:
    """`async with Monitor() as monitor:` watches what runs inside; then `monitor.health()`."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.marks = [self.mark()]

    def mark(self) -> tuple[float, float, int, int]:
        return (time.perf_counter(), time.process_time(), *cpu_times())

    async def watch(self) -> None:
        """Sleep in short steps and note how late each wakes: that is how late everything else in this loop is."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK_S)
            now = time.perf_counter()
            self.lags.append((now - before - TICK_S) * 1000)
            if now - self.marks[-1][0] >= SAMPLE_S:
                self.marks.append(self.mark())

    async def __aenter__(self) -> "Monitor":
        self.marks = [self.mark()]
        self.task = asyncio.create_task(self.watch())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        self.marks.append(self.mark())

    def health(self) -> Health:
        samples = []
        for before, after in pairwise(self.marks):
            cpu, steal = shares(before, after)
            samples.append((round(after[0] - self.marks[0][0], 2), round(cpu, 4), round(steal, 4)))
        cpu, steal = shares(self.marks[0], self.marks[-1])
        return Health(cpu, percentile(self.lags, 99), steal, samples)


def shares(before: tuple[float, float, int, int], after: tuple[float, float, int, int]) -> tuple[float, float]:
    """Between two marks: the client's share of one core, and the share of the machine's time that was stolen."""
    wall, cpu, stolen, ticks = (b - a for a, b in zip(before, after, strict=True))
    return cpu / max(wall, 1e-9), stolen / max(ticks, 1)
