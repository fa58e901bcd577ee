"""Starts of servers in turns, each written down as it ends, so that a run that was cut off goes on with the next."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.console import log, time_left
from benchmarks.leftover import sweep
from benchmarks.processes import running
from benchmarks.ratios import interval
from benchmarks.schedule import AGAIN, Visit, schedule
from benchmarks.stats import paired_ratio
from benchmarks.store import read_json, write_json
from benchmarks.systems import System


@dataclass(frozen=True)
class Starts:
    """Every system is started `warmups` times uncounted, then once in each round; the first one twice (A/A)."""

    systems: Sequence[System]
    rounds: int
    warmups: int
    seed: int
    folder: Path

    def visits(self) -> list[tuple[str, Visit]]:
        """(name of its file, whose turn it is) in order."""
        names = [system.name for system in self.systems]
        warm = [(f"warm-{n:03}-{name}.json", Visit(-1, name)) for n in range(self.warmups) for name in names]
        turns = schedule(names, self.rounds, self.seed)
        return warm + [(f"start-{visit.round:03}-{visit.arm.replace(' ', '-')}.json", visit) for visit in turns]

    def missing(self) -> list[tuple[str, Visit]]:
        return [(name, visit) for name, visit in self.visits() if not (self.folder / name).exists()]

    def run(self, later: float = 0.0) -> None:
        """Start each whose file is missing. `later` is how many seconds of other work follow."""
        sweep(self.folder)
        systems = {system.name: system for system in self.systems}
        missing = self.missing()
        started = time.monotonic()
        for number, (name, visit) in enumerate(missing):
            left = (time.monotonic() - started) / number * (len(missing) - number) + later if number else 0.0
            what = f"round {visit.round + 1}: {visit.arm}" if visit.round >= 0 else f"{visit.arm}, not counted"
            log(f"[{number + 1} of {len(missing)}{time_left(left)}] {what}")
            with running(systems[visit.system], self.folder) as server:
                found = {"arm": visit.arm, "round": visit.round, "seconds": server.startup, "memory": server.memory()}
            write_json(self.folder / name, found)

    def result(self) -> dict[str, Any]:
        """Times, memory and ratios of all starts."""
        return {**summary_of(self.folder), "rounds": self.rounds, "num_warmups": self.warmups}


def summary_of(folder: Path) -> dict[str, Any]:
    """Times, memory and ratios of the starts that a folder holds; {} before the first round is over."""
    rows = [read_json(path) for path in sorted(folder.glob("start-*.json"))]
    found = {(row["arm"], row["round"]): row for row in rows}
    names = sorted({arm for arm, _ in found}, key=lambda arm: (arm + AGAIN not in {row["arm"] for row in rows}, arm))
    # Pairs are of one round, so a round that is not over does not count.
    whole = [n for n in sorted({number for _, number in found}) if all((arm, n) in found for arm in names)]
    if not whole or len(names) < 2:
        return {}
    times = {arm: [float(found[arm, number]["seconds"]) for number in whole] for arm in names}
    return summary(times, {arm: [int(found[arm, number]["memory"]) for number in whole] for arm in names})


def summary(times: dict[str, list[float]], memory: dict[str, list[int]]) -> dict[str, Any]:
    """Each arm's times, and those of the first as a share of each other one's."""
    first = next(iter(times))
    ratios = {arm: paired_ratio(times[arm], times[first]) for arm in times if arm != first}
    return {
        "startup_s": times,
        "memory_bytes": {arm: fmean(values) for arm, values in memory.items()},
        "ratios": {arm: interval(ratio) for arm, ratio in ratios.items()},
    }
