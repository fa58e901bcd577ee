"""How many users a server serves within an SLO: double the arrival rate until it fails, then bisect to 10 %.

    python -m benchmarks capacity --slo ttft=1000ms,tpot=100ms --attain 0.95
    python -m benchmarks capacity --dataset-name finance --think-time 30

A rate passes if it is sure (Wilson's 95 % bound) that the share of requests within the SLO reaches --attain, and no
queue grows. Users = rate x (think time + mean latency): each thinks, asks, and waits for the whole answer.
"""

import argparse
import dataclasses
import math
from typing import Any

from benchmarks import options
from benchmarks.arrivals import arrivals
from benchmarks.block import run_block
from benchmarks.capacity import Capacity, Probe, judge, requests_for, search
from benchmarks.client import Call, Server
from benchmarks.console import BenchmarkError, finish, log, table


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
    log("warming up …")
    run_block(target, options.calls(args, target, 1), slo=args.slo, limits=options.limits(args))
    found = search(lambda rate: probe(args, target, rate), args.start_rate)
    low, high = found.users(args.think_time)
    result = {
        "capacity": found.low,
        "capacity_interval": [found.low, None if math.isinf(found.high) else found.high],
        "users": low,
        "users_interval": [low, None if math.isinf(found.high) else high],
        "slo": {key: None if math.isinf(value) else value for key, value in dataclasses.asdict(args.slo).items()},
        "attain": args.attain,
        "think_time": args.think_time,
        "dataset_name": args.dataset_name,
        "seed": args.seed,
        "probes": [dataclasses.asdict(probe) for probe in found.probes],
    }
    finish(result, text(found, low, high, args), only_json=args.json)
    return 0


def probe(args: argparse.Namespace, target: Server, rate: float) -> Probe:
    """Hold one rate for long enough to judge it."""
    count = requests_for(rate, args.attain, args.seconds)
    calls: list[Call] = options.calls(args, target, count)
    times = arrivals(count, rate, burstiness=args.burstiness, seed=args.seed)
    log(f"{rate:.2f} requests/s for {times[-1]:.0f} s ({count} requests) …")
    block = run_block(target, calls, times=times, slo=args.slo, limits=options.limits(args))
    found = judge(rate, block.outcomes, args.slo, args.attain)
    log(f"  {found.attainment:.1%} within the SLO, {verdict(found)}" + "".join(f"; VOID: {why}" for why in block.void))
    return dataclasses.replace(found, void=tuple(block.void), summary=summary_of(block.summary()))


def summary_of(summary: dict[str, Any]) -> dict[str, Any]:
    """What the report shows of a probe."""
    keys = (
        "output_throughput",
        "request_throughput",
        "mean_slo_ttft_ms",
        "p99_slo_ttft_ms",
        "mean_tpot_ms",
        "p99_tpot_ms",
    )
    return {key: summary[key] for key in keys}


def verdict(probe: Probe) -> str:
    return "passed" if probe.passed else "failed, the queue grows" if probe.queue_grows else "failed"


def text(found: Capacity, low: int, high: int, args: argparse.Namespace) -> str:
    """The answer and how it was found."""
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
