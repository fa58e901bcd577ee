"""Sum a run's folder up as one value: `report.json`, from which the page is made."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.console import BenchmarkError
from benchmarks.page import page
from benchmarks.ratios import compare
from benchmarks.roofline import Model, utilization
from benchmarks.schedule import AGAIN, arms, in_order
from benchmarks.store import Store

GPU = "python -m benchmarks compare launcher plain --model XuanYuan-6B-Chat --out gpu-results"
PER_REQUEST = ("ttfts", "tpots")


def build(folder: Path) -> dict[str, Any]:
    """Everything that the page shows. Raises BenchmarkError where there is no run."""
    store = Store(folder)
    run, blocks = store.run(), store.load()
    if not blocks:
        raise BenchmarkError(f"{folder} holds no blocks: run python -m benchmarks compare --out {folder} first")
    names = [name for name, system in run["systems"].items() if not system["absent"]]
    points = averages(blocks, names)
    return {
        **run,
        "ratios": [found.as_dict() for found in compare(blocks, names)],
        "points": points,
        "roofline": roofline(run, points),
        "capacity": capacities(folder),
        "void": [block_head(block) | {"reasons": block["void"]} for block in blocks if block["void"]],
        "gpu": {"measured": False, "command": GPU},
        "blocks": [{key: value for key, value in block.items() if key not in PER_REQUEST} for block in blocks],
    }


def block_head(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: block[key] for key in ("round", "arm", "point", "seed")}


def averages(blocks: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Each arm at each point over its blocks: those that are not void, or all of them if every one is."""
    found = []
    for point in in_order(block["point"] for block in blocks):
        for arm in arms(names):
            mine = [block for block in blocks if (block["arm"], block["point"]) == (arm, point) and block["completed"]]
            good = [block for block in mine if not block["void"]] or mine
            if good:
                found.append(average(good, len(mine)) | {"arm": arm, "point": point})
    return found


def average(blocks: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any]:
    """Means over the blocks that count.

    tokens_per_user is the pace of one stream, tokens/s; context how many tokens a sequence holds on average while its
    answer is made.
    """
    keys = ("output_throughput", "request_throughput", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms")
    means: dict[str, Any] = {key: fmean(block[key] for block in blocks) for key in keys}
    pace = 1000 / means["mean_tpot_ms"] if means["mean_tpot_ms"] else 0.0
    held = fmean((b["total_input_tokens"] + b["total_output_tokens"] / 2) / b["completed"] for b in blocks)
    return means | {"tokens_per_user": pace, "context": held, "blocks": count, "used": len(blocks)}


def roofline(run: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How near each closed loop came to the ceilings that were measured in its run; a step is taken to be a TPOT."""
    if "ceilings" not in run:
        return []
    model = Model(**run["shape"])
    closed = [item for item in points if item["point"].startswith("c") and item["mean_tpot_ms"]]
    return [
        {"arm": item["arm"], "point": item["point"]}
        | utilization(model, run["ceilings"], int(item["point"][1:]), item["context"], item["mean_tpot_ms"] / 1000)
        for item in closed
        if not item["arm"].endswith(AGAIN)
    ]


def capacities(folder: Path) -> dict[str, Any]:
    """What `capacity --json` printed into `capacity-NAME.json` or `capacity.json` in the folder, by name."""
    return {
        path.stem.removeprefix("capacity").lstrip("-") or "server": json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("capacity*.json"))
    }


def latencies(folder: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """{"ttfts" or "tpots": {point: {system: seconds of every request}}}, the A/A arm left out."""
    blocks = [block for block in Store(folder).load() if not block["arm"].endswith(AGAIN)]
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for kind in PER_REQUEST:
        found[kind] = {point: {} for point in in_order(block["point"] for block in blocks)}
        for block in sorted(blocks, key=lambda block: str(block["arm"])):
            found[kind][block["point"]].setdefault(block["arm"], []).extend(block[kind])
    return found


def write(folder: Path) -> dict[str, Any]:
    """Write `report.json` and `report.html` into the folder; what the former holds."""
    result = build(folder)
    (folder / "report.json").write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / "report.html").write_text(page(result, latencies(folder)), encoding="utf-8")
    return result
