"""Everything, block by block: a run that was cut off, even by SIGKILL, goes on after its last finished block.

    python -m benchmarks full --out full-results
    python -m benchmarks full --model XuanYuan-6B-Chat --out gpu-results

Stages: the launcher against the plain vLLM server (closed loops of 1, 8 and 32, an open loop); against every other
baseline that is installed; start-up; growth with requests and prompt length; users within the SLO. The launcher is
always compared with itself too. The same command goes on, or adds --rounds; one with other settings is refused.
The report can be written at any time: python -m benchmarks report DIR.
"""

import argparse
import math
from pathlib import Path

from benchmarks import options
from benchmarks.console import BenchmarkError, finish, log, time_left
from benchmarks.leftover import sweep
from benchmarks.report import stores, write
from benchmarks.stages import KINDS, Full
from benchmarks.summary import summary, text
from benchmarks.systems import NAMES, choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "systems",
        nargs="*",
        type=options.system_name,
        metavar="SYSTEM",
        help="the first is compared with each other one (default: all there are, the launcher first)",
    )
    options.add_run(parser, out=Path("full-results"))
    parser.add_argument("--rounds", type=options.positive, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=KINDS,
        default=KINDS,
        metavar="STAGE",
        help=f"of {', '.join(KINDS)} (default: all)",
    )
    parser.add_argument(
        "--rate", type=options.positive_float, default=1.0, metavar="R", help="of the open loop (default: %(default)s)"
    )
    parser.add_argument("--attain", type=float, default=0.95, metavar="SHARE", help="(default: %(default)s)")
    parser.add_argument(
        "--think-time", type=options.positive_float, default=20, metavar="S", help="of a user (default: %(default)s)"
    )
    options.add_workload(parser, num_prompts=None)
    options.add_limits(parser, "ttft=1000ms,tpot=100ms")
    parser.add_argument(
        "--seconds",
        type=options.positive_float,
        default=30,
        metavar="S",
        help="least time a rate is held in the search for users (default: %(default)s)",
    )
    parser.set_defaults(burstiness=1.0)


def run(args: argparse.Namespace) -> int:
    """Go through the stages, and write the report after each."""
    if not 0 < args.attain < 1:
        raise BenchmarkError(f"--attain {args.attain}: expected a share between 0 and 1, such as 0.95")
    names = args.systems or ([] if args.url else list(NAMES))
    chosen = choose(names, options.servers(args), args.model, args.llama_server)
    whole = Full(args, chosen)
    whole.begin()
    sweep(args.out)
    stages = [stage for stage in whole.stages() if stage.kind in args.stages]
    # How much longer than guessed the stages so far took: the guesses are those of two cores and the demo model.
    pace = 1.0
    for number, stage in enumerate(stages):
        later = pace * math.fsum(other.guess() for other in stages[number + 1 :])
        guess = stage.guess()
        if not guess:
            log(f"stage {number + 1} of {len(stages)}, {stage.title}: done before")
            continue
        log(f"stage {number + 1} of {len(stages)}{time_left(pace * guess + later)}: {stage.title}")
        taken = stage.timed(later)
        pace = taken / guess
        if compared(args.out):
            write(args.out)
    if not compared(args.out):
        finish({"report": None}, "no report yet: it begins with the stages main and against", only_json=args.json)
        return 0
    result = write(args.out)
    finish(summary(result, args.out), text(result, args.out), only_json=args.json)
    return 0


def compared(folder: Path) -> bool:
    """Whether there is a comparison to report."""
    return any(store.load() for store in stores(folder))
