"""How many users a server serves within an SLO: double the arrival rate until it fails, then bisect to 10 %.

    python -m benchmarks capacity --slo ttft=1000ms,tpot=100ms --attain 0.95
    python -m benchmarks capacity --dataset-name finance --think-time 30

A rate passes if it is sure (Wilson's 95 % bound) that the share of requests within the SLO reaches --attain, and no
queue grows. Users = rate x (think time + mean latency): each thinks, asks, and waits for the whole answer.
"""

import argparse
import math
from typing import Any

from benchmarks import options
from benchmarks.capacity import Capacity
from benchmarks.console import BenchmarkError, finish, table
from benchmarks.probing import Probing, summary, verdict


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_server(parser)
    options.add_limits(parser, "ttft=1000ms,tpot=100ms")
    parser.add_argument(
        "--attain", type=float, default=0.95, metavar="SHARE", help="of requests within the SLO (default: %(default)s)"
    )
    parser.add_argument(
        "--start-rate",
        type=options.positive_float,
        default=0.5,
        metavar="R",
        help="first guess, requests/s (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=options.positive_float,
        default=30,
        metavar="S",
        help="least time a rate is held (default: %(default)s)",
    )
    parser.add_argument(
        "--think-time",
        type=options.positive_float,
        default=20,
        metavar="S",
        help="of a user between answer and question (default: %(default)s)",
    )
    parser.add_argument(
        "--burstiness",
        type=options.positive_float,
        default=1.0,
        metavar="B",
        help="1 is a Poisson process, inf a constant rate (default: %(default)s)",
    )
    options.add_workload(parser, num_prompts=None)


def run(args: argparse.Namespace) -> int:
    """Search, and print the rate and the users."""
    if not 0 < args.attain < 1:
        raise BenchmarkError(f"--attain {args.attain}: expected a share between 0 and 1, such as 0.95")
    target = options.server(args)
    args.model = args.model or options.first_model(target)
    found = Probing(args, target).search()
    result = summary(found, args)
    finish(result, text(found, result, args), only_json=args.json)
    return 0


def text(found: Capacity, result: dict[str, Any], args: argparse.Namespace) -> str:
    """The answer and how it was found."""
    low, high = result["users_interval"]
    rows = [["requests/s", "within SLO", "at least", "mean latency, s", ""]]
    for item in sorted(found.probes, key=lambda item: item.rate):
        rows.append(
            [
                f"{item.rate:.2f}",
                f"{item.attainment:.1%}",
                f"{item.attainment_low:.1%}",
                f"{item.mean_latency:.2f}",
                verdict(item) + " (void)" * bool(item.void),
            ]
        )
    upper = (
        "the most that was tried" if math.isinf(found.high) else f"{found.high:.2f} failed: fewer than {high + 1} users"
    )
    rate = f"{found.low:.2f} requests/s, {args.think_time:g} s between questions"
    return f"{table(rows)}\n\n{low} users within the SLO ({rate}; {upper})"
