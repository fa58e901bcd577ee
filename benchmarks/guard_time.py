"""What the guard itself takes of an answer, measured in a process of its own on this machine: for the breakdown."""

import json
import subprocess
import sys
from typing import Any

from benchmarks.console import BenchmarkError
from benchmarks.systems import ROOT

# Few enough a second that requests do not wait for each other.
RATE, SECONDS = 50, 1


def guard_time(events: int) -> dict[str, Any]:
    """Median seconds that the guard adds to a stream of so many events, and to the same app without it: the noise."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.guard_cost"]
    command += ["--rate", str(RATE), "--seconds", str(SECONDS), "--events", str(events)]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise BenchmarkError(f"the guard's own time could not be measured: {error}") from error
    arms = json.loads(done.stdout.splitlines()[-1])["stream"]
    added = {name: (arms[name]["p50_ms"] - arms["bare"]["p50_ms"]) / 1000 for name in ("guard", "again")}
    return {"seconds": max(added["guard"], 0.0), "noise": abs(added["again"]), "events": events}
