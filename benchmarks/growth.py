"""How the time grows: with the requests that come at once, and with the length of a prompt."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from benchmarks.roofline import finite
from benchmarks.schedule import AGAIN
from benchmarks.stats import slope

REQUESTS = (8, 16, 32, 64, 128)
PROMPTS = (256, 512, 1024, 2048)
# Of each kind of point: what it is called, and how its seconds are read from a block.
KINDS = {"c": "requests", "p": "prompt"}
Blocks = Sequence[Mapping[str, Any]]


def seconds(block: Mapping[str, Any]) -> float:
    """From the first request to the last answer; for prompts, to the first token of one."""
    return float(block["mean_ttft_ms"]) / 1000 if block["point"].startswith("p") else float(block["duration"])


def growth(blocks: Blocks) -> dict[str, dict[str, Any]]:
    """{"requests" or "prompt": {system: its points, slope and exponent}}.

    `slope` is of a line, in seconds for one more; `exponent` is that of a power (1: twice as many take twice as long).
    Void blocks count only where a system has no others.
    """
    arms = sorted({block["arm"] for block in blocks if not block["arm"].endswith(AGAIN)})
    found: dict[str, dict[str, Any]] = {}
    for kind, title in KINDS.items():
        for arm in arms:
            mine = [b for b in blocks if b["arm"] == arm and b["point"].startswith(kind) and b["completed"]]
            good = [block for block in mine if not block["void"]]
            pairs = [(float(block["point"][1:]), seconds(block)) for block in good or mine]
            if len({x for x, _ in pairs}) > 1:
                found.setdefault(title, {})[arm] = fit(pairs) | {"blocks": len(mine), "used": len(pairs)}
    return found


def fit(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The mean time of each size, and both fits over all blocks."""
    xs, ys = zip(*pairs, strict=True)
    logs = slope([math.log(x) for x in xs], [math.log(y) for y in ys])
    means = [[size, fmean(y for x, y in pairs if x == size)] for size in sorted(set(xs))]
    return {"points": means, "slope": finite(asdict(slope(xs, ys))), "exponent": finite(asdict(logs))}
