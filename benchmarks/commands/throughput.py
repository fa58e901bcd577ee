"""Offline throughput, without HTTP: vLLM's own `bench throughput` with the launcher's flags, and with its defaults.

    python -m benchmarks throughput
    python -m benchmarks throughput launcher --num-prompts 128 --output-len 128 --json

Each run is a process of its own: import, load, --num-warmups prompts, then the clock runs over --num-prompts at once.
The engines take turns in an order that changes, the first one twice (the A/A arm). The names in the result are those of
`vllm bench throughput`; its tokens_per_second counts prompts too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import options
from benchmarks.console import BenchmarkError, finish, log, table
from benchmarks.ratios import interval
from benchmarks.schedule import arms, schedule
from benchmarks.stats import paired_ratio
from benchmarks.systems import QUIET, ROOT, Recipe, foreign_plugins, recipe

ENGINES = ("launcher", "plain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("engines", nargs="*", type=engine, metavar="ENGINE", help="launcher, plain (default: both)")
    parser.add_argument("--model", metavar="MODEL", help="catalog name, local folder or hub id; default: the demo")
    parser.add_argument("--num-prompts", type=options.positive, default=64, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--input-len", type=options.positive, default=100, metavar="TOKENS", help="(default: 100)")
    parser.add_argument("--output-len", type=options.positive, default=64, metavar="TOKENS", help="(default: 64)")
    parser.add_argument("--num-warmups", type=int, default=8, metavar="N", help="prompts before (default: 8)")
    parser.add_argument("--rounds", type=options.positive, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)


def engine(text: str) -> str:
    """One of ENGINES, for argparse."""
    if text not in ENGINES:
        raise argparse.ArgumentTypeError(f"no engine {text!r}; there are {', '.join(ENGINES)}")
    return text


def run(args: argparse.Namespace) -> int:
    """Take turns, and print speeds and ratios."""
    found = recipe(args.model)
    names = args.engines or list(ENGINES)
    rows: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms(names)}
    visits = schedule(names, args.rounds, args.seed)
    started = time.monotonic()
    for number, visit in enumerate(visits):
        left = time_left(number, len(visits), time.monotonic() - started)
        log(f"[{number + 1} of {len(visits)}] round {visit.round + 1}: {visit.arm}{left} …")
        rows[visit.arm].append(measure(visit.system, found, args))
        log(f"  {rows[visit.arm][-1]['output_tokens_per_second']:.1f} output tokens/s")
    result = summary(rows) | {
        "num_prompts": args.num_prompts,
        "input_len": args.input_len,
        "output_len": args.output_len,
        "seed": args.seed,
    }
    finish(result, text(result), only_json=args.json)
    return 0


def time_left(done: int, of: int, seconds: float) -> str:
    """For the progress line, once one is done."""
    return f", about {seconds / done * (of - done) / 60:.1f} min left" if done else ""


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Every run, means, and how many times as fast the first arm is as each other one."""
    speeds = {arm: [row["tokens_per_second"] for row in runs] for arm, runs in rows.items()}
    first = next(iter(speeds))
    ratios = {arm: interval(paired_ratio(speeds[arm], speeds[first])) for arm in speeds if arm != first}
    means = {arm: {name: fmean(row[name] for row in runs) for name in runs[0]} for arm, runs in rows.items()}
    return {"runs": rows, "means": means, "ratios": ratios}


def text(result: dict[str, Any]) -> str:
    """One row an arm."""
    first = next(iter(result["means"]))
    speeds = ["requests/s", "tokens/s with prompts", "output tokens/s"]
    cells: list[list[object]] = [["", *speeds, f"{first} is times as fast", "95 % interval"]]
    for arm, mean in result["means"].items():
        ratio = result["ratios"].get(arm)
        words = [f"{ratio['value']:.2f}", limits(ratio)] if ratio else ["", ""]
        means = [mean["requests_per_second"], mean["tokens_per_second"], mean["output_tokens_per_second"]]
        cells.append([arm, *means, *words])
    return table(cells)


def limits(ratio: dict[str, Any]) -> str:
    return f"{ratio['low']:.2f} to {ratio['high']:.2f}" if ratio["pairs"] > 1 else "one pair"


def measure(name: str, found: Recipe, args: argparse.Namespace) -> dict[str, Any]:
    """One run in a process of its own. Raises BenchmarkError with the end of its log when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.vllm_throughput", *flags(name, found, args)]
        done = subprocess.run(
            [*command, "--output-json", str(path)],
            env={**os.environ, **environment(name, found)},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if done.returncode or not path.exists():
            raise BenchmarkError(f"vllm bench throughput failed for {name}:\n{done.stderr[-1500:]}")
        row = dict(json.loads(path.read_text()))
        # Every answer has its full length: the end of the text is ignored.
        return row | {"output_tokens_per_second": row["requests_per_second"] * args.output_len}


def flags(name: str, found: Recipe, args: argparse.Namespace) -> list[str]:
    """The engine's flags, and the load in `vllm bench`'s words."""
    load = {
        "--dataset-name": "random",
        "--random-input-len": args.input_len,
        "--random-output-len": args.output_len,
        "--num-prompts": args.num_prompts,
        "--num-warmups": args.num_warmups,
        "--seed": args.seed,
    }
    own = found.args if name == "launcher" else ("--model", found.model, *found.kv_cache)
    return [*own, *(str(word) for pair in load.items() for word in pair)]


def environment(name: str, found: Recipe) -> dict[str, str]:
    """What the launcher sets around the engine; for the plain one, that this project's plugins stay out."""
    return {**QUIET, **found.env} if name == "launcher" else {**QUIET, "VLLM_PLUGINS": foreign_plugins()}
