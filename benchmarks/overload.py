"""What a server still gets done when far more is asked of it than it can do: goodput under overload, open-loop.

    xuanyuan serve --max-num-seqs 32 --max-queue-seconds 5 --log-format none
    python -m benchmarks.overload --slo ttft=7s

Before and after each multiple the capacity is measured: --concurrency requests kept running (closed loop). Between,
requests arrive at that many times the capacity, as a Poisson process, whether or not any is answered. Goodput is what
was answered whole and within the SLO, in requests/s, from --warm seconds after the load began until it ends: a queue
that has no end shows as answers that come too late. A load is void where the capacity before and after differ by more
than 10 %: then the machine was not the server's alone. Prints a table; the last line is one JSON object.
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
MOST_DRIFT = 0.10


@dataclass(frozen=True)
class Load:
    """One multiple of the capacity, which was measured `before` and `after`. Rates in requests/s, times in seconds."""

    multiple: float
    before: float
    after: float
    offered: float
    goodput: float
    refused: int
    late: int
    failed: int
    p99_ttft: float
    client_cpu: float

    @property
    def ratio(self) -> float:
        """Goodput over capacity."""
        return 2 * self.goodput / (self.before + self.after)

    @property
    def void(self) -> bool:
        """Whether the machine's speed changed too much to tell."""
        return abs(self.after / self.before - 1) > MOST_DRIFT


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
        """Offer so many times the capacity."""
        before = self.capacity()
        rate = multiple * before
        count = round(rate * self.args.seconds)
        log(f"{multiple:g} x {before:.2f} requests/s for {self.args.seconds:g} s ({count} requests) …")
        times = arrivals(count, rate, seed=self.seed)
        block = self.block(count, times)
        kinds = Counter(self.kind(item) for item in block.outcomes)
        return Load(
            multiple,
            before,
            self.capacity(),
            count / times[-1],
            goodput(block.outcomes, self.args, times[-1]),
            kinds["refused"],
            kinds["late"],
            kinds["failed"],
            percentile([item.slo_ttft for item in block.outcomes if item.ok], 99),
            block.health.client_cpu,
        )

    def kind(self, item: Outcome) -> str:
        """What became of a request."""
        if item.ok:
            return "good" if item.meets(self.args.slo) else "late"
        return "refused" if refused(item) else "failed"


def text(loads: Sequence[Load]) -> str:
    """The result for people."""
    rows: list[list[object]] = [
        ["load", "capacity/s", "offered/s", "goodput/s", "of capacity", "refused", "late", "failed", "TTFT p99, s", ""]
    ]
    for load in loads:
        rows.append(
            [
                f"{load.multiple:g}x",
                f"{load.before:.2f}, {load.after:.2f}",
                f"{load.offered:.2f}",
                f"{load.goodput:.2f}",
                f"{load.ratio:.1%}",
                load.refused,
                load.late,
                load.failed,
                f"{load.p99_ttft:.1f}",
                "void" * load.void,
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
    rows = [asdict(load) | {"ratio": load.ratio, "void": load.void} for load in loads]
    reached = all(load.ratio >= TARGET and not load.void for load in loads if load.multiple > 1)
    finish({"loads": rows, "reached": reached}, text(loads), only_json=False)


if __name__ == "__main__":
    main(sys.argv[1:])
