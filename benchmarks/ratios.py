"""From blocks to ratios: each system against the first one, block by block, with the first one against itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.schedule import AGAIN, in_order
from benchmarks.stats import Ratio, gate, paired_ratio

# Of each: its name in a block, and whether more of it is better.
METRICS = {"output_throughput": True, "median_ttft_ms": False, "mean_tpot_ms": False}


@dataclass(frozen=True)
class Comparison:
    """How many times better `first` is than `second` in one metric at one point; for times, how many times shorter.

    `noise` is `first` against itself, `void` the number of pairs that were left out because one of them is void.
    If all are, they are used after all, and the verdict is "void".
    """

    metric: str
    point: str
    first: str
    second: str
    ratio: Ratio
    noise: Ratio
    void: int
    all_void: bool

    @property
    def verdict(self) -> str:
        return "void" if self.all_void else gate(self.ratio, self.noise)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinity: the open end of a single pair's interval becomes None."""
        sides = {name: interval(getattr(self, name)) for name in ("ratio", "noise")}
        return {**asdict(self), **sides, "verdict": self.verdict}


def interval(ratio: Ratio) -> dict[str, Any]:
    return {**asdict(ratio), "high": ratio.high if math.isfinite(ratio.high) else None}


Blocks = Sequence[Mapping[str, Any]]


def paired(blocks: Blocks, point: str, first: str, second: str, metric: str) -> tuple[Ratio | None, int, bool]:
    """(the ratio or None, void pairs, whether all are void) of two arms over the rounds that have both."""
    by_round = {
        arm: {block["round"]: block for block in blocks if (block["arm"], block["point"]) == (arm, point)}
        for arm in (first, second)
    }
    pairs = [
        (by_round[first][number], by_round[second][number])
        for number in sorted(by_round[first].keys() & by_round[second].keys())
        if by_round[first][number][metric] > 0 and by_round[second][number][metric] > 0
    ]
    if not pairs:
        return None, 0, False
    good = [pair for pair in pairs if not pair[0]["void"] and not pair[1]["void"]]
    ours, theirs = zip(*((a[metric], b[metric]) for a, b in good or pairs), strict=True)
    sides = (theirs, ours) if METRICS[metric] else (ours, theirs)
    return paired_ratio(*sides), len(pairs) - len(good), not good


def compare(blocks: Blocks, names: Sequence[str]) -> list[Comparison]:
    """The first of `names` against each other one, in every metric, at every point that both were measured at."""
    first, *others = names
    found = []
    for metric in METRICS:
        for point in in_order(block["point"] for block in blocks):
            noise, _, _ = paired(blocks, point, first, first + AGAIN, metric)
            for second in others:
                ratio, void, all_void = paired(blocks, point, first, second, metric)
                if ratio and noise:
                    found.append(Comparison(metric, point, first, second, ratio, noise, void, all_void))
    return found
