"""Search a server's capacity; each rate that was held can be kept, so that a search that was cut off goes on."""

import argparse
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import options
from benchmarks.arrivals import arrivals
from benchmarks.block import run_block
from benchmarks.capacity import Capacity, Probe, judge, requests_for, search
from benchmarks.client import Call, Server
from benchmarks.console import log
from benchmarks.store import read_json, write_json

# What the report shows of a probe.
KEPT = (
    "output_throughput",
    "request_throughput",
    "mean_slo_ttft_ms",
    "p99_slo_ttft_ms",
    "mean_tpot_ms",
    "p99_tpot_ms",
)


@dataclass
class Probing:
    """A search on one server. `args` names SLO, workload and how long a rate is held.

    With `folder`, every probe is a file there: the search is deterministic, so the same one again repeats none.
    """

    args: argparse.Namespace
    target: Server
    folder: Path | None = None
    probes: list[Probe] = field(default_factory=list)
    warm: bool = False

    def search(self) -> Capacity:
        """Double, then bisect."""
        return search(self.probe, self.args.start_rate)

    def probe(self, rate: float) -> Probe:
        """What is known of this rate from before, or else hold it now."""
        path = self.folder / f"probe-{len(self.probes):03}.json" if self.folder else None
        kept = from_json(read_json(path)) if path and path.exists() else None
        found = kept if kept and kept.rate == rate else self.hold(rate)
        if path and found is not kept:
            write_json(path, asdict(found))
        self.probes.append(found)
        return found

    def warm_up(self) -> None:
        if not self.warm:
            log("warming up …")
            warm = options.calls(self.args, self.target, 1)
            run_block(self.target, warm, slo=self.args.slo, limits=options.limits(self.args))
            self.warm = True

    def hold(self, rate: float) -> Probe:
        """Hold one rate for long enough to judge it."""
        self.warm_up()
        args = self.args
        count = requests_for(rate, args.attain, args.seconds)
        calls: list[Call] = options.calls(args, self.target, count)
        times = arrivals(count, rate, burstiness=args.burstiness, seed=args.seed)
        log(f"{rate:.2f} requests/s for {times[-1]:.0f} s ({count} requests) …")
        block = run_block(self.target, calls, times=times, slo=args.slo, limits=options.limits(args))
        found = judge(rate, block.outcomes, args.slo, args.attain)
        void = "".join(f"; VOID: {why}" for why in block.void)
        log(f"  {found.attainment:.1%} within the SLO, {verdict(found)}{void}")
        summary = block.summary()
        return replace(found, void=tuple(block.void), summary={key: summary[key] for key in KEPT})


def from_json(row: dict[str, Any]) -> Probe:
    return Probe(**row | {"void": tuple(row["void"])})


def verdict(probe: Probe) -> str:
    return "passed" if probe.passed else "failed, the queue grows" if probe.queue_grows else "failed"


def summary(found: Capacity, args: argparse.Namespace) -> dict[str, Any]:
    """The capacity as JSON: users, the interval of both, and every probe."""
    low, high = found.users(args.think_time)
    return {
        "capacity": found.low,
        "capacity_interval": [found.low, None if math.isinf(found.high) else found.high],
        "users": low,
        "users_interval": [low, None if math.isinf(found.high) else high],
        "slo": {key: None if math.isinf(value) else value for key, value in asdict(args.slo).items()},
        "attain": args.attain,
        "think_time": args.think_time,
        "dataset_name": args.dataset_name,
        "seed": args.seed,
        "probes": [asdict(probe) for probe in found.probes],
    }
