"""What this machine can do at most, and the least time that a decode step of the model can take on it.

    python -m benchmarks roofline
    python -m benchmarks roofline --model XuanYuan-6B-Chat --context 1000

Read bandwidth and GEMM rate are measured with the engine's own threads and libraries. The least time of a step is the
longer of reading all weights and the KV cache once, and of its arithmetic. `quick` shows how near it came.
"""

import argparse
from pathlib import Path

from benchmarks import options
from benchmarks.console import finish, log, table
from benchmarks.roofline import ceilings, read_model, utilization
from benchmarks.systems import recipe

BATCHES = (1, 8, 32, 128)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="MODEL", help="catalog name, local folder or hub id; default: the demo")
    parser.add_argument(
        "--context",
        type=options.positive,
        default=132,
        metavar="TOKENS",
        help="of each (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, and print the floor of each batch size."""
    found = recipe(args.model)
    model = read_model(Path(found.model), found.dtype)
    log("measuring read bandwidth and GEMM rate …")
    limits = ceilings(found)
    rows: list[list[object]] = [["batch", "at least, ms", "tokens/s at most", "limited by"]]
    floors = []
    for batch in BATCHES:
        shares = utilization(model, limits, batch, args.context, 1.0)
        floor, by = shares["floor_ms"], "memory" if shares["mbu"] >= shares["mfu"] else "compute"
        floors.append({"batch": batch, "floor_ms": floor, "limited_by": by})
        rows.append([batch, floor, 1000 * batch / floor, by])
    words = (
        f"{limits['bandwidth_gb_s']:.1f} GB/s read, {limits['gemm_gflop_s']:,.0f} GFLOP/s in {limits['dtype']} "
        f"(at the model's shapes, batch 32: {limits['gemm_model_gflop_s']:,.0f}), {limits['threads']} threads; "
        f"{model.weights / 1e6:,.0f} million weights a token"
    )
    result = {**limits, "model": found.model, "weights": model.weights, "context": args.context, "decode": floors}
    finish(result, f"{words}\n\n{table(rows)}", only_json=args.json)
    return 0
