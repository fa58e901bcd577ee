"""Write report.html and report.json from the blocks of a run.

    python -m benchmarks report benchmark-results

The page needs nothing but itself. To show how many users a server serves, put what capacity found beside the run first:

    python -m benchmarks capacity --url http://127.0.0.1:8000 --json > benchmark-results/capacity-launcher.json
"""

import argparse
from pathlib import Path

from benchmarks.console import finish
from benchmarks.report import write
from benchmarks.summary import summary, text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, nargs="?", default=Path("benchmark-results"), metavar="DIR")


def run(args: argparse.Namespace) -> int:
    """Write both files, and print the table."""
    result = write(args.folder)
    finish(summary(result, args.folder), text(result, args.folder), only_json=args.json)
    return 0
