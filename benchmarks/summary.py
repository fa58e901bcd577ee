"""A run in the terminal: a short table, and one JSON object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.console import table
from benchmarks.markup import interval
from benchmarks.schedule import AGAIN, point_title


def summary(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the last line on stdout holds."""
    return {
        "report": str(folder / "report.html"),
        "points": result["points"],
        "ratios": result["ratios"],
        "blocks": len(result["blocks"]),
        "void": result["void"],
        "absent": {name: system["absent"] for name, system in result["systems"].items() if system["absent"]},
    }


def text(result: Mapping[str, Any], folder: Path) -> str:
    """Throughput of each system at each load, with its ratio and the noise."""
    rows: list[list[object]] = [["", "", "tokens/s", "TTFT p50, ms", "TPOT, ms", "ratio", "A/A", ""]]
    ratios = {
        (item["point"], item["second"]): item for item in result["ratios"] if item["metric"] == "output_throughput"
    }
    for item in result["points"]:
        if item["arm"].endswith(AGAIN):
            continue
        row = [point_title(item["point"]), item["arm"]]
        row += [f"{item[key]:.1f}" for key in ("output_throughput", "median_ttft_ms", "mean_tpot_ms")]
        ratio = ratios.get((item["point"], item["arm"]))
        rows.append(
            [*row, *([interval(ratio["ratio"]), interval(ratio["noise"]), ratio["verdict"]] if ratio else [""] * 3)]
        )
    lines = [table(rows)]
    lines += [f"{name} is absent: {system['absent']}" for name, system in result["systems"].items() if system["absent"]]
    void = len(result["void"])
    lines += [f"{void} of {len(result['blocks'])} blocks are void; the report says why"] if void else []
    first = next(iter(result["systems"]))
    return "\n".join(
        [*lines, f"ratio: {first} over this system; A/A: {first} over itself", f"report: {folder / 'report.html'}"]
    )
