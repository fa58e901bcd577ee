"""What a server still gets done when far more is asked of it than it can do: goodput under overload, open-loop.

    xuanyuan serve --max-num-seqs 32 --max-queue-seconds 5 --log-format none
    python -m benchmarks.overload --slo ttft=7s

For each multiple, first the capacity: --concurrency requests kept running (closed loop). Then requests arrive at that
many times the capacity, as a Poisson process, whether or not any is answered. Goodput is what was answered whole and
within the SLO, in requests/s, from --warm seconds after the load began until it ends: a queue that has no end shows as
answers that come too late. Prints a table; the last line is one JSON object.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks import options
from benchmarks.arrivals import arrivals
from benchmarks.block import Block, run_block
from benchmarks.client import Call, Server
from benchmarks.console import finish, log, table
from benchmarks.metrics import Outcome
from benchmarks.stats import percentile

TARGET = 0.95


@dataclass(frozen=True)
class Load:
    """One multiple of the capacity. Rates in requests/s; `ratio` is goodput over capacity; times in seconds."""

    multiple: float
    capacity: float
    offered: float
    goodput: float
    ratio: float
    refused: int
    late: int
    failed: int
    p99_ttft: float
    client_cpu: float


def goodput(outcomes: Sequence[Outcome], args: Namespace, until: float) -> float:
    """Answers within the SLO that were complete between `args.warm` and `until` seconds, per second of that time."""
    ends = [item.start + item.e2el for item in outcomes if item.meets(args.slo)]
    warm: float = args.warm
    return sum(warm <= end <= until for end in ends) / (until - warm)


def refused(item: Outcome) -> bool:
    """Whether the server said at once that it is too busy."""
    return item.error.startswith("HTTP 503") and "overloaded" in item.error


class Overload:
    """Blocks of load on one server, each with prompts of its own."""

    def __init__(self, args: Namespace, server: Server) -> None:
        self.args = args
        self.server = server
        self.seed = args.seed

    def calls(self, count: int) -> list[Call]:
        self.seed += 1
        return options.calls(Namespace(**vars(self.args) | {"seed": self.seed}), self.server, count)

    def block(self, count: int, times: Sequence[float] | None) -> Block:
        return run_block(
            self.server,
            self.calls(count),
            times=times,
            concurrency=self.args.concurrency,
            slo=self.args.slo,
            limits=options.limits(self.args),
        )

    def capacity(self) -> float:
        """Requests/s of a closed loop, without its beginning and its end, when not all places are taken."""
        ends = sorted(
            item.start + item.e2el for item in self.block(4 * self.args.concurrency, None).outcomes if item.ok
        )
        inner = ends[self.args.concurrency // 2 : -self.args.concurrency]
        return (len(inner) - 1) / (inner[-1] - inner[0])

    def load(self, multiple: float) -> Load:
        """Measure the capacity, then offer so many times as much."""
        capacity = self.capacity()
        rate = multiple * capacity
        count = round(rate * self.args.seconds)
        log(f"{multiple:g} x {capacity:.2f} requests/s for {self.args.seconds:g} s ({count} requests) …")
        times = arrivals(count, rate, burstiness=1.0, seed=self.seed)
        block = self.block(count, times)
        good = goodput(block.outcomes, self.args, times[-1])
        kinds = Counter(
            "good" if item.meets(self.args.slo) else "late" if item.ok else "refused" if refused(item) else "failed"
            for item in block.outcomes
        )
        waits = [item.slo_ttft for item in block.outcomes if item.ok]
        return Load(
            multiple,
            capacity,
            count / times[-1],
            good,
            good / capacity,
            kinds["refused"],
            kinds["late"],
            kinds["failed"],
            percentile(waits, 99),
            block.health.client_cpu,
        )


def text(loads: Sequence[Load]) -> str:
    """The result for people."""
    rows: list[list[object]] = [
        ["load", "capacity/s", "offered/s", "goodput/s", "of capacity", "refused", "late", "failed", "TTFT p99, s"]
    ]
    for load in loads:
        rows.append(
            [
                f"{load.multiple:g}x",
                f"{load.capacity:.2f}",
                f"{load.offered:.2f}",
                f"{load.goodput:.2f}",
                f"{load.ratio:.1%}",
                load.refused,
                load.late,
                load.failed,
                f"{load.p99_ttft:.1f}",
            ]
        )
    return table(rows)


def main(argv: Sequence[str]) -> None:
    """Measure each multiple in turn."""
    parser = ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter)
    options.add_server(parser)
    options.add_workload(parser, num_prompts=None)
    options.add_limits(parser, "ttft=7s")
    parser.add_argument("--multiples", type=float, nargs="+", default=[1, 2, 4, 10], help="(default: 1 2 4 10)")
    parser.add_argument("--concurrency", type=options.positive, default=32, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=options.positive_float, default=40, help="of load (default: %(default)s)")
    parser.add_argument("--warm", type=float, default=12, help="of them, not counted (default: %(default)s)")
    args = parser.parse_args(argv)
    overload = Overload(args, options.server(args))
    overload.capacity()  # warms up, and tells the server how fast it is
    loads = [overload.load(multiple) for multiple in args.multiples]
    reached = all(load.ratio >= TARGET for load in loads if load.multiple > 1)
    finish({"loads": [asdict(load) for load in loads], "reached": reached}, text(loads), only_json=False)


if __name__ == "__main__":
    main(sys.argv[1:])
