"""What the guard costs on the real engine: the launcher's server with and without it, interleaved, beside the noise.

    python -m benchmarks guard_cost_engine --rounds 8 --concurrency 8 32 --out guard-cost --minutes 5

Both servers stay in memory, one of them stopped at a time; turns are mirrored (ABBA), and the guarded server is also
compared with itself (A/A). A ratio above 1 says how many times better the guarded server did. The report in --out has
every block; the last line is one JSON object. What --minutes cuts off is measured when the command is given again.
"""

import sys
import time
from argparse import ArgumentParser, Namespace

from benchmarks import options
from benchmarks.__main__ import main
from benchmarks.client import Server
from benchmarks.compare import Comparison
from benchmarks.console import finish
from benchmarks.report import write
from benchmarks.schedule import points
from benchmarks.store import Store
from benchmarks.summary import summary, text
from benchmarks.systems import QUIET, SERVED_NAME, Chosen, System, free_port, named, recipe


def systems(model: str | None) -> Chosen:
    """The server with the guard, and without."""
    found = recipe(model)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.unguarded", str(port), SERVED_NAME, *([model] if model else [])]
    bare = System("unguarded", Server(f"http://127.0.0.1:{port}"), tuple(command), QUIET)
    return Chosen((named("launcher", found, model), bare), found)


def add_arguments(parser: ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument("--rounds", type=options.positive, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--concurrency", type=options.positive, nargs="+", default=[8, 32], metavar="N", help="(default: 8 32)"
    )
    parser.add_argument(
        "--waves", type=options.positive, default=2, metavar="N", help="requests per place (default: %(default)s)"
    )
    parser.add_argument(
        "--minutes", type=options.positive_float, default=float("inf"), help="begin no turn that would end later"
    )
    options.add_workload(parser, num_prompts=None)
    options.add_limits(parser, None)


def run(args: Namespace) -> int:
    """Measure what is missing in --out, and print the ratios."""
    deadline = time.monotonic() + 60 * args.minutes
    comparison = Comparison(
        args=args,
        points=points(args.concurrency, [], args.waves, 0),
        rounds=args.rounds,
        store=Store(args.out),
        limits=options.limits(args),
        deadline=deadline,
    )
    comparison.run(systems(args.model))
    result = write(args.out)
    finish(summary(result, args.out), text(result, args.out), only_json=args.json)
    return 0


if __name__ == "__main__":
    # The same as `python -m benchmarks guard_cost_engine`.
    sys.exit(main(["guard_cost_engine", *sys.argv[1:]]))
