"""The short benchmark, at most 10 minutes on two cores: the launcher against the plain vLLM server.

    make bench
    python -m benchmarks quick --model XuanYuan-6B-Chat
    python -m benchmarks quick --url ours=http://127.0.0.1:8000 --url theirs=http://127.0.0.1:8001

It measures the machine's ceilings, then closed loops of 1, 4, 8 and 32 requests and an open one in interleaved blocks,
with the launcher against itself as the noise. It prints a table and writes report.html and report.json into --out.
The other baselines are listed with what they lack here, or with the command that measures them.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import options
from benchmarks.compare import Comparison
from benchmarks.console import finish, log
from benchmarks.report import write
from benchmarks.schedule import points
from benchmarks.store import Store
from benchmarks.summary import summary, text
from benchmarks.systems import choose, left_out

SYSTEMS = ("launcher", "plain")
MINUTES = 10
# What is left for ending the servers and writing the report.
RESERVE_S = 25
CONCURRENCY, RATE, RATE_SECONDS, WAVES, ROUNDS = (1, 4, 8, 32), 1.0, 8.0, 2, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser, out=Path("benchmark-results") / time.strftime("%Y%m%d-%H%M%S"))
    options.add_workload(parser, num_prompts=None)
    options.add_limits(parser, None)
    parser.set_defaults(output_len=32)


def run(args: argparse.Namespace) -> int:
    """Measure until all rounds are done or the time is over, and sum up."""
    started = time.monotonic()
    log(f"this takes at most {MINUTES} minutes")
    chosen = choose([] if args.url else SYSTEMS, options.servers(args), args.model)
    if not args.url:
        chosen = replace(chosen, systems=(*chosen.systems, *left_out(SYSTEMS, args.llama_server)))
    comparison = Comparison(
        args=args,
        points=points(CONCURRENCY, [RATE], WAVES, RATE_SECONDS),
        rounds=ROUNDS,
        store=Store(args.out),
        limits=options.limits(args),
        deadline=started + 60 * MINUTES - RESERVE_S,
    )
    comparison.run(chosen)
    result = write(args.out)
    finish(summary(result, args.out), text(result, args.out), only_json=args.json)
    return 0
