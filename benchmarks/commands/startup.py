"""How long servers take from their start to their first token, and the memory that they then hold.

    python -m benchmarks startup
    python -m benchmarks startup launcher plain --rounds 6 --num-warmups 0

Each is started anew in every round, in an order that changes, the first one twice (the A/A arm). What a start leaves
behind, such as compiled kernels, is there for the next: --num-warmups starts that are not counted make it so for all.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import options
from benchmarks.console import finish, table
from benchmarks.starts import Starts
from benchmarks.systems import NAMES, choose

GIB = 1024**3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "systems",
        nargs="*",
        type=options.system_name,
        default=["launcher", "plain"],
        metavar="SYSTEM",
        help=f"of {', '.join(NAMES)} (default: launcher plain)",
    )
    parser.add_argument("--model", metavar="MODEL", help="catalog name, local folder or hub id; default: the demo")
    options.add_llama_server(parser)
    parser.add_argument("--rounds", type=options.positive, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--num-warmups", type=int, default=1, metavar="N", help="uncounted (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order")


def run(args: argparse.Namespace) -> int:
    """Start each in turn, and print seconds, memory and ratios."""
    chosen = choose(args.systems, {}, args.model, args.llama_server)
    with tempfile.TemporaryDirectory() as folder:
        starts = Starts(chosen.present, args.rounds, args.num_warmups, args.seed, Path(folder))
        starts.run()
        result = starts.result()
    result["absent"] = {system.name: system.absent for system in chosen.systems if system.absent}
    finish(result, text(result), only_json=args.json)
    return 0


def text(result: dict[str, Any]) -> str:
    """One row an arm."""
    rows: list[list[object]] = [["", "first token, s", "memory, GiB", "ratio", "95 % interval"]]
    for arm, times in result["startup_s"].items():
        ratio = result["ratios"].get(arm)
        words = [f"{ratio['value']:.2f}", limits(ratio)] if ratio else ["", ""]
        rows.append([arm, fmean(times), result["memory_bytes"][arm] / GIB, *words])
    first = next(iter(result["startup_s"]))
    lines = [f"{name} is absent: {why}" for name, why in result["absent"].items()]
    return "\n".join([table(rows), f"ratio: the time of {first} as a share of this one's", *lines])


def limits(ratio: dict[str, Any]) -> str:
    return f"{ratio['low']:.2f} to {ratio['high']:.2f}" if ratio["pairs"] > 1 else "one pair"
