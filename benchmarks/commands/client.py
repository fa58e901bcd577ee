"""What the load generator itself costs, against a server that costs next to nothing.

    python -m benchmarks client

Its limits: under 5 % of a core at 200 tokens/s, and a loop lag p99 under 5 ms at 10,000 tokens/s.
"""

import argparse

from benchmarks.block import Block, run_block
from benchmarks.client import Server
from benchmarks.console import finish, log, table
from benchmarks.fake_server import MODEL, Behaviour, running
from benchmarks.metrics import Slo
from benchmarks.monitor import Limits
from benchmarks.workload import synthetic

# Streams, seconds between tokens, tokens an answer.
SLOW, FAST = (4, 0.02, 200), (100, 0.01, 500)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing to choose."""


def run(args: argparse.Namespace) -> int:
    """Measure both. Exit code 1 when a limit is passed."""
    slow, fast = (block(*shape) for shape in (SLOW, FAST))
    rows: list[list[object]] = [["tokens/s", "of a core, %", "loop lag p99, ms", "chunks per read"]]
    results = {}
    for name, found in (("slow", slow), ("fast", fast)):
        row = {
            "output_throughput": found.summary()["output_throughput"],
            "client_cpu": found.health.client_cpu,
            "loop_lag_p99_ms": found.health.loop_lag_p99_ms,
            "steal": found.health.steal,
            "chunks_per_read": sum(i.pieces for i in found.outcomes) / sum(len(i.gaps) + 1 for i in found.outcomes),
        }
        results[name] = row
        rows.append(
            [round(row["output_throughput"]), 100 * row["client_cpu"], row["loop_lag_p99_ms"], row["chunks_per_read"]]
        )
    good = slow.health.client_cpu <= Limits.client_cpu and fast.health.loop_lag_p99_ms <= Limits.loop_lag_ms
    finish({**results, "within_limits": good}, table(rows), only_json=args.json)
    return 0 if good else 1


def block(streams: int, tpot: float, tokens: int) -> Block:
    """A closed loop of two waves at streams / tpot tokens a second."""
    log(f"{streams / tpot:,.0f} tokens/s for {2 * tokens * tpot:.0f} s …")
    calls = [question.call(MODEL, ignore_eos=True) for question in synthetic(2 * streams, 100, tokens, 0)]
    with running(Behaviour(streams, tpot, tpot)) as url:
        return run_block(Server(url), calls, concurrency=streams, slo=Slo(), limits=Limits())
