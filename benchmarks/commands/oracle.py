"""Whether this harness and `vllm bench serve` measure the same thing, on the same server with the same load.

    python -m benchmarks oracle --url http://127.0.0.1:8000 --concurrency 4

Both take turns, in an order that changes (ABBA). Throughput and the mean time of a token should agree within 2 %.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from benchmarks import options
from benchmarks.block import run_block
from benchmarks.console import BenchmarkError, finish, log, table
from benchmarks.metrics import Slo
from benchmarks.monitor import Limits
from benchmarks.stats import paired_ratio
from benchmarks.workload import synthetic

METRICS = ("output_throughput", "mean_tpot_ms", "mean_ttft_ms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_server(parser)
    parser.add_argument("--tokenizer", metavar="FOLDER", help="for vllm bench's prompts; default: the model's folder")
    parser.add_argument("--concurrency", type=options.positive, default=4, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--num-prompts", type=options.positive, default=24, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=options.positive, default=4, metavar="N", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Take turns, and print the ratio of each number. Exit code 1 when one is more than 2 % away."""
    target = options.server(args)
    model = options.list_models(target)[0]
    calls = [q.call(model["id"], ignore_eos=True) for q in synthetic(args.num_prompts, 100, 64, 0)]
    rows: dict[str, list[dict[str, Any]]] = {"vllm bench": [], "ours": []}
    with vllm_bench(bench_flags(args, model), target.headers) as ask:
        log("warming up …")
        run_block(target, calls, concurrency=args.concurrency, slo=Slo(), limits=Limits())
        for number in range(args.rounds):
            for name in list(rows) if number % 2 == 0 else list(rows)[::-1]:
                log(f"round {number + 1} of {args.rounds}: {name} …")
                if name == "ours":
                    block = run_block(target, calls, concurrency=args.concurrency, slo=Slo(), limits=Limits())
                    rows[name].append(block.summary())
                else:
                    rows[name].append(ask())
    theirs, ours = rows.values()
    ratios = {key: paired_ratio([row[key] for row in theirs], [row[key] for row in ours]) for key in METRICS}
    agree = all(abs(ratios[key].value - 1) <= 0.02 for key in METRICS[:2])
    cells: list[list[object]] = [["", *rows, "ratio", "95 % interval"]]
    for key, ratio in ratios.items():
        means = (sum(row[key] for row in side) / args.rounds for side in rows.values())
        cells.append([key, *means, f"{ratio.value:.4f}", f"{ratio.low:.4f} to {ratio.high:.4f}"])
    result = {
        "ratios": {key: dataclasses.asdict(ratio) for key, ratio in ratios.items()},
        "runs": {name: [{key: row[key] for key in METRICS} for row in side] for name, side in rows.items()},
        "void": [row["void"] for row in rows["ours"]],
        "agree_within_2_percent": agree,
    }
    finish(result, table(cells), only_json=args.json)
    return 0 if agree else 1


def bench_flags(args: argparse.Namespace, model: dict[str, Any]) -> list[str]:
    """The same load in `vllm bench`'s words."""
    flags = {
        "--base-url": args.url.rstrip("/").removesuffix("/v1"),
        "--model": model["id"],
        "--tokenizer": args.tokenizer or model["root"],
        "--dataset-name": "random",
        "--random-input-len": 100,
        "--random-output-len": 64,
        "--num-prompts": args.num_prompts,
        "--max-concurrency": args.concurrency,
        "--temperature": 0,
    }
    return ["--disable-tqdm", *(str(word) for pair in flags.items() for word in pair)]


@contextmanager
def vllm_bench(flags: list[str], headers: dict[str, str]) -> Iterator[Any]:
    """A function that runs `vllm bench serve` once and returns its result."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.vllm_bench", *flags]
    for name, value in headers.items():
        command += ["--header", f"{name}={value}"]
    log("starting vllm bench …")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        answer(process.stdout)

        def ask() -> dict[str, Any]:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            result: dict[str, Any] = json.loads(answer(process.stdout))
            return result

        try:
            yield ask
        finally:
            process.kill()


def answer(lines: IO[str]) -> str:
    """The next line of the other process. Raises BenchmarkError when it has ended."""
    line = lines.readline()
    if not line:
        raise BenchmarkError("vllm bench ended; run python -m benchmarks.vllm_bench --help with the engine's Python")
    return line
