"""Send a load to any OpenAI-compatible server and measure what comes back.

    python -m benchmarks load --url http://127.0.0.1:8000 --concurrency 8
    python -m benchmarks load --rate 2 --dataset-name finance --slo ttft=1000ms,tpot=100ms

With --rate, requests leave at random times whether or not earlier ones were answered (open loop); with --concurrency,
that many are kept running (closed loop). Latencies in the SLO run from the time a request was due.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import options
from benchmarks.arrivals import arrivals
from benchmarks.block import Block, run_block
from benchmarks.console import finish, log, table
from benchmarks.metrics import details


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_server(parser)
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--rate", type=options.positive_float, metavar="R", help="requests a second")
    load.add_argument("--concurrency", type=options.positive, default=1, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--burstiness",
        type=options.positive_float,
        default=1.0,
        metavar="B",
        help="of --rate: 1 is a Poisson process, less is burstier, inf is a constant rate (default: %(default)s)",
    )
    options.add_workload(parser, num_prompts=100)
    parser.add_argument(
        "--num-warmups", type=int, default=1, metavar="N", help="requests before it counts (default: %(default)s)"
    )
    options.add_limits(parser, None)
    parser.add_argument("--save-detailed", type=Path, metavar="FILE", help="also write every request, as JSON")


def run(args: argparse.Namespace) -> int:
    """Run one block. Exit code 0 also when it is void or requests failed: the result says so."""
    target = options.server(args)
    warm = options.calls(args, target, args.num_warmups + args.num_prompts)
    calls = warm[args.num_warmups :]
    if args.num_warmups:
        log(f"warming up with {args.num_warmups} requests …")
        run_block(
            target, warm[: args.num_warmups], concurrency=args.concurrency, slo=args.slo, limits=options.limits(args)
        )
    times = arrivals(len(calls), args.rate, burstiness=args.burstiness, seed=args.seed) if args.rate else None
    how = f"at {args.rate:g} a second, {times[-1]:.0f} s" if times else f"{args.concurrency} at a time"
    log(f"{len(calls)} requests to {target.url}, {how} …")
    block = run_block(
        target, calls, times=times, concurrency=args.concurrency, slo=args.slo, limits=options.limits(args)
    )
    result = {**head(args, target.url), **block.summary()}
    if args.save_detailed:
        args.save_detailed.write_text(json.dumps(result | details(block.outcomes), ensure_ascii=False))
    finish(result, text(block, result), only_json=args.json)
    return 0


def head(args: argparse.Namespace, url: str) -> dict[str, Any]:
    """What was asked for, under `vllm bench`'s names."""
    return {
        "backend": "openai",
        "base_url": url,
        "num_prompts": args.num_prompts,
        "request_rate": args.rate or "inf",
        "burstiness": args.burstiness,
        "max_concurrency": None if args.rate else args.concurrency,
        "dataset_name": args.dataset_name,
        "seed": args.seed,
    }


def text(block: Block, result: dict[str, Any]) -> str:
    """The result for people."""
    rows: list[list[object]] = [["", "mean", "p50", "p90", "p99"]]
    names = {
        "ttft": "first token, ms",
        "tpot": "each later token, ms",
        "chunk_gap": "gap between chunks, ms",
        "e2el": "whole answer, ms",
    }
    for name, title in names.items():
        rows.append([title, *(result[f"{key}_{name}_ms"] for key in ("mean", "p50", "p90", "p99"))])
    lines = [
        f"{result['completed']} answered, {result['failed']} failed in {block.duration:.1f} s: "
        f"{result['output_throughput']:.1f} tokens/s, {result['request_throughput']:.2f} requests/s",
        table(rows),
        f"client: {block.health.client_cpu:.1%} of a core, loop lag p99 {block.health.loop_lag_p99_ms:.1f} ms",
    ]
    if result["request_goodput"] is not None:
        low, high = result["attainment_interval"]
        lines.append(f"within the SLO: {result['attainment']:.1%} ({low:.1%} to {high:.1%})")
    errors = {item.error for item in block.outcomes if not item.ok}
    lines += [f"failed: {error}" for error in sorted(errors)[:5]]
    lines += [f"VOID: {reason}" for reason in block.void]
    return "\n".join(lines)
