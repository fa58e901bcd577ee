"""Start the server: an OpenAI-compatible API on http://127.0.0.1:8000.

MODEL is a name from `xuanyuan models`, a local folder, or a Hugging Face or ModelScope id. Without MODEL and without a
GPU a small demo model is served. What comes after -- goes to vLLM unchanged.

  xuanyuan serve
  xuanyuan serve XuanYuan-6B-Chat-4bit --port 8080
  xuanyuan serve /models/XuanYuan-6B-Chat -- --max-num-seqs 64
"""

import argparse
import os

from serving.config import load_config
from serving.flags import add_setting_flags, given
from serving.launch import Prepared, prepare, serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, every setting, and --dry-run."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="catalog name, local folder, or hub id")
    parser.add_argument("--dry-run", action="store_true", help="print vLLM's arguments and environment, and stop")
    parser.add_argument("--json", action="store_true", help="with --dry-run: as one JSON object")
    add_setting_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until stopped; returns only after a dry run."""
    config = load_config(given(args), os.environ, args.config).config
    passed = tuple(args.passed)
    if not args.dry_run:
        serve(config, passed, os.environ)
    show(prepare(config, passed), as_json=args.json)
    return 0


def show(prepared: Prepared, *, as_json: bool) -> None:
    """Print what the engine would be started with."""
    if as_json:
        print(prepared.spec.to_json())
        return
    for name, value in sorted(prepared.spec.env.items()):
        print(f"{name}={value}")
    for word in prepared.spec.args:
        print(("" if word.startswith("--") else "    ") + word)
