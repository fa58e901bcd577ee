"""Systems against each other on one checkpoint: interleaved blocks, paired ratios, and the noise beside them.

    python -m benchmarks compare launcher plain
    python -m benchmarks compare launcher hf --concurrency 32 --waves 1
    python -m benchmarks compare launcher ray llama.cpp --llama-server /opt/llama.cpp/llama-server
    python -m benchmarks compare launcher --url theirs=http://127.0.0.1:8001

The first system is compared with each other one, and with itself (the A/A arm): that is the noise. A turn takes a
system through every load; the order of turns is random in one round and mirrored in the next (ABBA). Idle servers stay
in memory, stopped; where memory does not hold them all, each is started for its turn. Every block is a file in --out:
the same command goes on where it was cut off, and with more --rounds it adds some.
"""

import argparse

from benchmarks import options
from benchmarks.compare import Comparison
from benchmarks.console import finish
from benchmarks.report import write
from benchmarks.schedule import points
from benchmarks.store import Store
from benchmarks.summary import summary, text
from benchmarks.systems import NAMES, choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "systems",
        nargs="*",
        type=options.system_name,
        metavar="SYSTEM",
        help="; ".join(f"{name}: {what}" for name, what in NAMES.items()),
    )
    options.add_run(parser)
    parser.add_argument("--rounds", type=options.positive, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--restart", action="store_true", help="start a server for each turn even where memory holds them all"
    )
    parser.add_argument(
        "--concurrency", type=options.positive, nargs="+", default=[1, 8, 32], metavar="N", help="(default: 1 8 32)"
    )
    parser.add_argument("--rate", type=options.positive_float, nargs="+", default=[], metavar="R", help="open loops")
    parser.add_argument(
        "--waves", type=options.positive, default=2, metavar="N", help="requests per place (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=options.positive_float, default=20, metavar="S", help="of an open loop (default: %(default)s)"
    )
    options.add_workload(parser, num_prompts=None)
    options.add_limits(parser, None)


def run(args: argparse.Namespace) -> int:
    """Measure what is missing in --out, then sum up all that is there."""
    chosen = choose(args.systems, options.servers(args), args.model, args.llama_server)
    comparison = Comparison(
        args=args,
        points=points(args.concurrency, args.rate, args.waves, args.seconds),
        rounds=args.rounds,
        store=Store(args.out),
        limits=options.limits(args),
    )
    comparison.run(chosen, restart=args.restart)
    result = write(args.out)
    finish(summary(result, args.out), text(result, args.out), only_json=args.json)
    return 0
