"""`xuanyuan doctor`: check this box, the installation and, with --model, a checkpoint; each row with its remedy."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from serving.doctor import diagnose, table
from serving.doctor_facts import collect
from serving.errors import EXIT_CONFIGURATION
from serving.hardware import detect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, metavar="DIR", help="also check the checkpoint in this folder")
    parser.add_argument("--json", action="store_true", help="a list of {name, status, detail, remedy}")


def run(args: argparse.Namespace) -> int:
    """Print the checks. Exit codes: 0 when none failed, else 2."""
    facts = collect(detect())
    checks = diagnose(facts)
    if args.model:
        # Needs packages that the other checks may have found missing.
        from serving.doctor_checkpoint import examine

        checks += examine(args.model, facts)
    print(json.dumps([asdict(check) for check in checks]) if args.json else table(checks, sys.stdout))
    return EXIT_CONFIGURATION if any(check.status == "fail" for check in checks) else 0
