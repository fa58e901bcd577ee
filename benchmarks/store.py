"""A run on disk: what was asked for, and one file a block, written as each ends, so that it can go on later."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.block import Block
from benchmarks.console import BenchmarkError
from benchmarks.schedule import Point, Visit


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all: a run may be cut off at any time."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


class Store:
    """A folder with `run.json`, which says what was asked for, and one file a block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blocks = folder / "blocks"

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Make the folder, or go on in one with the same run. Raises BenchmarkError when it holds another run."""
        self.blocks.mkdir(parents=True, exist_ok=True)
        before = self.run()
        if before and before["asked"] != asked:
            raise BenchmarkError(
                f"{self.folder} holds a run with other settings ({differences(before['asked'], asked)}): "
                "name another folder with --out"
            )
        if not before:
            write_json(self.folder / "run.json", {"asked": asked})

    def run(self) -> dict[str, Any]:
        """What `run.json` holds; {} before the first run."""
        path = self.folder / "run.json"
        return read_json(path) if path.exists() else {}

    def note(self, **facts: Any) -> None:
        """Add facts to `run.json`."""
        write_json(self.folder / "run.json", self.run() | facts)

    def path(self, visit: Visit, point: Point) -> Path:
        return self.blocks / f"{visit.round:03}-{visit.arm.replace(' ', '-')}-{point.name}.json"

    def load(self) -> list[dict[str, Any]]:
        """Every block, in the order of rounds."""
        return [read_json(path) for path in sorted(self.blocks.glob("*.json"))]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What was changed, such as "seed: 0 before, now 7"."""
    pairs = {key: (str(before.get(key, "nothing")), str(now.get(key, "nothing"))) for key in [*before, *now]}
    return "; ".join(
        f"{key}: {only(old, new)} before, now {only(new, old)}" for key, (old, new) in pairs.items() if old != new
    )


def only(text: str, other: str) -> str:
    """The words that `other` has not, so that a long list of flags shows the one that changed; all if it has them."""
    return " ".join(word for word in text.split() if word not in other.split()) or text


def entry(visit: Visit, point: Point, block: Block, seed: int, tries: int) -> dict[str, Any]:
    """What a block's file holds: `vllm bench`'s names where it has them, and each request's latencies."""
    good = [item for item in block.outcomes if item.ok]
    return {
        "round": visit.round,
        "arm": visit.arm,
        "system": visit.system,
        "point": point.name,
        "max_concurrency": point.concurrency,
        "request_rate": point.rate or "inf",
        "num_prompts": point.count,
        "seed": seed,
        "tries": tries,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **block.summary(),
        "ttfts": [round(item.ttft, 5) for item in good],
        "tpots": [round(item.tpot, 6) for item in good if item.output_tokens > 1],
    }
