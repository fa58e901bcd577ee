"""What a server still gets done when far more is asked of it than it can do: goodput under overload, open-loop.

    xuanyuan serve --max-num-seqs 32 --max-queue-seconds 5 --log-format none
    python -m benchmarks overload --slo ttft=7s --append overload.jsonl

Before and after each load the capacity is measured: closed loops of --concurrency requests and of twice as many, of
which the one that is better on the whole counts. Between, requests arrive at a multiple of that, as a Poisson process,
whether or not any is answered. Goodput is what was answered within the SLO from --warm seconds after the load began
until it ends. A load is void where the capacity before and after differ by more than 10 %, or where other programs took
more than a fifth of a core (seen where the server is on this machine): then the machine was not the server's alone. The
client's processor time is shown, as a share of a core: where both share cores, the server lacks it.

With --append, loads are kept in a file and those of earlier runs count too: the interval is over all of them that are
not void. Prints tables; the last line is one JSON object.
"""

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks import options
from benchmarks.__main__ import main
from benchmarks.arrivals import arrivals
from benchmarks.block import Block, run_block
from benchmarks.client import Call, Server
from benchmarks.console import finish, log, table
from benchmarks.goodput import closed_loop, goodput
from benchmarks.metrics import Outcome
from benchmarks.monitor import Limits
from benchmarks.processes import Running
from benchmarks.stats import Ratio, paired_ratio, percentile
from benchmarks.systems import System
from benchmarks.workload import out_of_step

TARGET = 0.95
MOST_DRIFT = 0.10
# How often the engine is filled in the counted part of a closed loop.
WAVES = 4


@dataclass(frozen=True)
class Capacity:
    """Rates in requests/s: of a closed loop of so many requests, and of twice as many. `others` as in Load."""

    rates: tuple[float, float]
    others: float


@dataclass(frozen=True)
class Load:
    """One multiple of the capacity, which was measured `before` and `after`. Rates in requests/s, times in seconds.

    `ttft`: median, 99th percentile and longest time to the first token of what was answered. `refusal`: median time to
    a refusal. `others`: share of a core that neither client nor server took; 0 where the server is elsewhere.
    """

    multiple: float
    before: Capacity
    after: Capacity
    offered: float
    goodput: float
    refused: int
    late: int
    failed: int
    ttft: tuple[float, float, float]
    refusal: float
    client_cpu: float
    others: float

    @property
    def capacity(self) -> tuple[float, float]:
        """Of this machine at that time, by each of the loops."""
        narrow, wide = ((before + after) / 2 for before, after in zip(self.before.rates, self.after.rates, strict=True))
        return narrow, wide

    @property
    def most_others(self) -> float:
        """What other programs took, at worst."""
        return max(self.before.others, self.others, self.after.others)

    @property
    def void(self) -> bool:
        """Whether the machine's speed changed too much to tell."""
        drift = abs(sum(self.after.rates) / sum(self.before.rates) - 1)
        return drift > MOST_DRIFT or self.most_others > Limits.others

    @classmethod
    def from_json(cls, line: str) -> "Load":
        """What `asdict` and JSON made of one."""
        fields: dict[str, Any] = json.loads(line)
        for name in ("before", "after"):
            fields[name] = Capacity(tuple(fields[name]["rates"]), fields[name]["others"])
        return cls(**{**fields, "ttft": tuple(fields["ttft"])})


def refused(item: Outcome) -> bool:
    """Whether the server said at once that it is too busy."""
    return item.error.startswith("HTTP 503") and "overloaded" in item.error


def listening(url: str) -> psutil.Process | None:
    """The process that serves an address of this machine: the oldest that listens there, as its children may too."""
    address = urlsplit(url)
    if address.hostname not in ("127.0.0.1", "localhost"):
        return None
    found = [process for process in psutil.process_iter() if listens(process, address.port or 80)]
    return min(found, key=lambda process: process.create_time(), default=None)


def listens(process: psutil.Process, port: int) -> bool:
    """Whether a process has a port open. (Of several that share it, psutil.net_connections() names only one.)"""
    try:
        held = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in held)


class Overload:
    """Blocks of load on one server, each with prompts of its own."""

    def __init__(self, args: Namespace, server: Server) -> None:
        self.args = args
        self.server = server
        self.model = args.model or options.first_model(server)
        self.seed = args.seed
        process = listening(server.url)
        self.target = Running(System("server", server), server, "", process) if process else None

    def calls(self, count: int, places: int = 0) -> list[Call]:
        """Requests of their own; the first of `places` with spread lengths."""
        self.seed += 1
        asked = options.questions(Namespace(**vars(self.args) | {"seed": self.seed}), count)
        return [each.call(self.model, ignore_eos=self.args.ignore_eos) for each in out_of_step(asked, places)]

    def block(
        self, calls: Sequence[Call], *, times: Sequence[float] | None = None, concurrency: int = 1
    ) -> tuple[Block, float]:
        """A block, and the share of a core that other programs took meanwhile."""
        before, started = self.others(), time.monotonic()
        limits = options.limits(self.args)
        block = run_block(self.server, calls, times=times, concurrency=concurrency, slo=self.args.slo, limits=limits)
        return block, (self.others() - before) / (time.monotonic() - started)

    def others(self) -> float:
        """Seconds of processor time that other programs have taken so far."""
        return self.target.cpu_of_others() if self.target else 0.0

    def capacity(self) -> Capacity:
        """What the server makes of as many requests as it can have, and of twice as many."""
        (narrow, one), (wide, other) = self.loop(self.args.concurrency), self.loop(2 * self.args.concurrency)
        return Capacity((narrow, wide), max(one, other))

    def loop(self, places: int) -> tuple[float, float]:
        """The rate of a closed loop, and what other programs took."""
        # What all places do first and last is not counted: then not all of them are taken.
        calls = self.calls(WAVES * self.args.concurrency + 2 * places, places)
        block, others = self.block(calls, concurrency=places)
        rate, client = closed_loop(block.outcomes, places), block.health.client_cpu
        log(f"  closed loop of {places}: {rate:.2f} requests/s; client {client:.1%}, others {others:.1%} of a core")
        return rate, others

    def load(self, multiple: float, before: Capacity) -> Load:
        """Offer so many times the capacity."""
        rate = multiple * max(before.rates)
        count = round(rate * self.args.seconds)
        log(f"{multiple:g} x {rate / multiple:.2f} requests/s for {self.args.seconds:g} s ({count} requests) …")
        times = arrivals(count, rate, seed=self.seed)
        block, others = self.block(self.calls(count), times=times)
        made = goodput(block.outcomes, self.args.slo, self.args.warm, times[-1])
        kinds = Counter(self.kind(item) for item in block.outcomes)
        waits = [item.slo_ttft for item in block.outcomes if item.ok]
        refusals = [item.slo_e2el for item in block.outcomes if refused(item)]
        log(f"  {made:.2f} requests/s; client {block.health.client_cpu:.1%}, others {others:.1%}; {dict(kinds)}")
        return Load(
            multiple,
            before,
            self.capacity(),
            count / times[-1],
            made,
            kinds["refused"],
            kinds["late"],
            kinds["failed"],
            (percentile(waits, 50), percentile(waits, 99), percentile(waits, 100)),
            percentile(refusals, 50),
            block.health.client_cpu,
            others,
        )

    def kind(self, item: Outcome) -> str:
        """What became of a request."""
        if item.ok:
            return "good" if item.meets(self.args.slo) else "late"
        return "refused" if refused(item) else "failed"


def better(loads: Sequence[Load]) -> int:
    """Which of the two closed loops did more over all loads: 0 or 1. (To take the better each time would take luck.)"""
    return int(sum(load.capacity[1] for load in loads) > sum(load.capacity[0] for load in loads))


def ratios(loads: Sequence[Load]) -> dict[float, Ratio]:
    """Goodput over capacity at each multiple, over the loads that are not void."""
    good = [load for load in loads if not load.void]
    loop = better(good)
    found = {}
    for multiple in sorted({load.multiple for load in good}):
        some = [load for load in good if load.multiple == multiple]
        found[multiple] = paired_ratio([load.capacity[loop] for load in some], [load.goodput for load in some])
    return found


def text(loads: Sequence[Load]) -> str:
    """The loads one by one for people."""
    heads = (
        "load,capacity/s,offered/s,goodput/s,of capacity,refused,late,failed,TTFT p50,p99,max,refusal ms,client,others,"
    )
    rows: list[list[object]] = [[*heads.split(",")]]
    loop = better(loads)
    for load in sorted(loads, key=lambda load: load.multiple):
        rows.append(
            [
                f"{load.multiple:g}x",
                f"{load.before.rates[loop]:.2f}; {load.after.rates[loop]:.2f}",
                f"{load.offered:.1f}",
                f"{load.goodput:.2f}",
                f"{load.goodput / load.capacity[loop]:.1%}",
                load.refused,
                load.late,
                load.failed,
                *(f"{seconds:.2f}" for seconds in load.ttft),
                f"{1000 * load.refusal:.0f}",
                f"{load.client_cpu:.1%}",
                f"{load.most_others:.1%}",
                "void" * load.void,
            ]
        )
    return table(rows)


def verdict(found: dict[float, Ratio]) -> str:
    """The ratios for people."""
    rows: list[list[object]] = [["load", "goodput/capacity", "95 % interval", "loads"]]
    for multiple, ratio in found.items():
        rows.append([f"{multiple:g}x", f"{ratio.value:.1%}", f"{ratio.low:.1%} to {ratio.high:.1%}", ratio.pairs])
    return table(rows)


def as_row(multiple: float, ratio: Ratio) -> dict[str, Any]:
    """For JSON, which has no infinity."""
    high = ratio.high if ratio.pairs > 1 else None
    return {"multiple": multiple, "ratio": ratio.value, "low": ratio.low, "high": high, "loads": ratio.pairs}


def add_arguments(parser: ArgumentParser) -> None:
    options.add_server(parser)
    options.add_workload(parser, num_prompts=None)
    options.add_limits(parser, "ttft=7s")
    parser.add_argument("--multiples", type=float, nargs="+", default=[2, 4, 10], help="(default: 2 4 10)")
    parser.add_argument("--concurrency", type=options.positive, default=32, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=options.positive_float, default=40, help="of load (default: %(default)s)")
    parser.add_argument("--warm", type=float, default=10, help="of them, not counted (default: %(default)s)")
    parser.add_argument("--append", type=Path, metavar="FILE", help="JSON lines, one a load")


def run(args: Namespace) -> int:
    """Measure each multiple in turn. Exit code 0 also where the aim is missed: the result says so."""
    earlier = args.append.read_text().splitlines() if args.append and args.append.exists() else []
    loads = [Load.from_json(line) for line in earlier]
    overload = Overload(args, options.server(args))
    overload.block(overload.calls(args.concurrency), concurrency=args.concurrency)  # warms up
    capacity = overload.capacity()
    for multiple in args.multiples:
        loads.append(overload.load(multiple, capacity))
        capacity = loads[-1].after
        if args.append:
            with args.append.open("a") as file:
                file.write(json.dumps(asdict(loads[-1])) + "\n")
    found = ratios(loads)
    reached = bool(found) and all(ratio.value >= TARGET for multiple, ratio in found.items() if multiple > 1)
    result = {
        "ratios": [as_row(*item) for item in found.items()],
        "loads": [asdict(load) | {"void": load.void} for load in loads],
        "reached": reached,
    }
    finish(result, f"{text(loads)}\n\n{verdict(found)}", only_json=args.json)
    return 0


if __name__ == "__main__":
    # The same as `python -m benchmarks overload`.
    sys.exit(main(["overload", *sys.argv[1:]]))
