"""Sum a run's folder up as one value: `report.json`, from which the page is made."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.breakdown import breakdown, floor, means, said
from benchmarks.console import BenchmarkError
from benchmarks.datasheet import datasheet_gb_s
from benchmarks.growth import growth
from benchmarks.page import page
from benchmarks.ratios import compare
from benchmarks.roofline import Model, prefill_utilization, utilization
from benchmarks.schedule import AGAIN, arms, in_order
from benchmarks.starts import summary_of
from benchmarks.store import Store

GPU = "python -m benchmarks full --model XuanYuan-6B-Chat --out gpu-results"
PER_REQUEST = ("ttfts", "tpots")
# The stages of `full`, each in a folder of its own.
MAIN, AGAINST, GROWTH, STARTUP = "main", "against-", "growth", "startup"


def stores(folder: Path) -> list[Store]:
    """The comparisons of a run: its own folder, or those of the stages of `full`, the main one first."""
    stages = [path for path in [folder / MAIN, *sorted(folder.glob(f"{AGAINST}*"))] if path.is_dir()]
    return [Store(path) for path in stages or [folder]]


def build(folder: Path) -> dict[str, Any]:
    """Everything that the page shows. Raises BenchmarkError where there is no run."""
    parts = [comparison(store) for store in stores(folder) if store.load()]
    if not parts:
        raise BenchmarkError(f"{folder} holds no blocks: run python -m benchmarks compare --out {folder} first")
    result = merged(Store(folder).run(), parts)
    return result | {
        "growth": growth(Store(folder / GROWTH).load()),
        "startup": summary_of(folder / STARTUP),
        "capacity": capacities(folder),
        "gpu": {
            "measured": result.get("ceilings", {}).get("device") == "cuda",
            "datasheet_gb_s": datasheet_gb_s(result.get("ceilings", {})),
            "command": GPU,
        },
    }


def comparison(store: Store) -> dict[str, Any]:
    """One comparison by itself."""
    run, blocks = store.run(), store.load()
    names = [name for name, system in run["systems"].items() if not system["absent"]]
    points = averages(blocks, names)
    return {
        **run,
        "ratios": [found.as_dict() for found in compare(blocks, names)],
        "points": points,
        "roofline": roofline(run, points),
        "breakdown": breakdowns(run, blocks),
        "void": [block_head(block) | {"reasons": block["void"]} for block in blocks if block["void"]],
        "blocks": [in_vllm_words(block, run) for block in blocks],
    }


def merged(run: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first comparison with what the others add to it: their ratios and blocks, and their further systems."""
    first, *others = parts
    result = {**first, **{key: value for key, value in run.items() if key != "asked"}}
    mine = {item["arm"] for item in first["points"]}
    for other in others:
        for key in ("ratios", "void", "blocks"):
            result[key] = [*result[key], *other[key]]
        for key in ("points", "roofline", "breakdown"):
            result[key] = [*result[key], *(item for item in other[key] if item["arm"].removesuffix(AGAIN) not in mine)]
        for key in ("systems", "startup_s", "memory_bytes"):
            result[key] = {**other.get(key, {}), **result.get(key, {})}
    return result


def in_vllm_words(block: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """A block as `vllm bench serve` writes its result, with more beside it, and without the single requests."""
    head = {"backend": "openai", "label": block["arm"], "model_id": run["model"], "tokenizer_id": run["model"]}
    return head | {key: value for key, value in block.items() if key not in PER_REQUEST}


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
    answer is made; prefill_s the mean time of a prompt in the engine, or to the first token where it does not say.
    """
    keys = ("output_throughput", "request_throughput", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms")
    means: dict[str, Any] = {key: fmean(block[key] for block in blocks) for key in keys}
    pace = 1000 / means["mean_tpot_ms"] if means["mean_tpot_ms"] else 0.0
    asked = fmean(b["total_input_tokens"] / b["completed"] for b in blocks)
    answered = fmean(b["total_output_tokens"] / b["completed"] for b in blocks)
    prefill = fmean(said(b).get("prefill_s", b["median_ttft_ms"] / 1000) for b in blocks)
    return means | {
        "tokens_per_user": pace,
        "context": asked + answered / 2,
        "prompt": asked,
        "prefill_s": prefill,
        "blocks": count,
        "used": len(blocks),
    }


def roofline(run: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How near each closed loop came to the ceilings that were measured in its run.

    A decode step is taken to be a TPOT. A prompt runs alone only where one request is served at a time, so that is
    where prefill is looked at.
    """
    if "ceilings" not in run:
        return []
    model, limits = Model(**run["shape"]), run["ceilings"]
    found = []
    for item in points:
        if not item["point"].startswith("c") or not item["mean_tpot_ms"] or item["arm"].endswith(AGAIN):
            continue
        head, batch = {"arm": item["arm"], "point": item["point"]}, int(item["point"][1:])
        if batch == 1:
            shares = prefill_utilization(model, limits, item["prompt"], item["prefill_s"])
            found.append({**head, "phase": "prefill", **shares})
        shares = utilization(model, limits, batch, item["context"], item["mean_tpot_ms"] / 1000)
        found.append({**head, "phase": "decode", **shares})
    return found


def breakdowns(run: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where the time of a mean answer goes, of each system at each closed loop whose server has timers."""
    found = []
    names = sorted({block["arm"] for block in blocks if not block["arm"].endswith(AGAIN)})
    for point in in_order(block["point"] for block in blocks if block["point"].startswith("c")):
        for arm in names:
            mine = [b for b in blocks if (b["arm"], b["point"]) == (arm, point) and b["completed"]]
            times = means([block for block in mine if not block["void"]] or mine)
            if times:
                least = None
                if "ceilings" in run:
                    model, batch = Model(**run["shape"]), int(point[1:])
                    least = floor(model, run["ceilings"], batch, times["prompt"], times["answer"])
                parts = breakdown(times, least, run.get("guard", {}).get("seconds", 0.0))
                found.append({"arm": arm, "point": point, "seconds": parts})
    return found


def capacities(folder: Path) -> dict[str, Any]:
    """What `capacity --json` printed into `capacity-NAME.json` or `capacity.json` in the folder, by name."""
    return {
        path.stem.removeprefix("capacity").lstrip("-") or "server": json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("capacity*.json"))
    }


def latencies(folder: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """{"ttfts" or "tpots": {point: {system: seconds of every request}}}, the A/A arm left out.

    Of the comparisons of `full`, the main one alone: in the others the machine was shared with other servers.
    """
    blocks = [block for block in stores(folder)[0].load() if not block["arm"].endswith(AGAIN)]
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
