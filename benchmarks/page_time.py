"""Sections of the report about time: where it goes, what the server did meanwhile, how it grows, what a start takes."""

from collections.abc import Mapping
from html import escape
from statistics import fmean
from typing import Any

from benchmarks.bars import bars
from benchmarks.breakdown import PARTS
from benchmarks.charts import Line, plot
from benchmarks.markup import GIB, Result, interval, paragraph, section, table
from benchmarks.schedule import AGAIN, point_title
from benchmarks.strips import Strip, strips

NEEDS_TIMERS = "Not measured: no system here has the engine's timers on /metrics."


def where_time_goes(result: Result) -> str:
    """A bar a system and load: the mean answer's time, in the parts of PARTS."""
    rows = [
        (f"{item['arm']}, {point_title(item['point'])}", {part: 1000 * s for part, s in item["seconds"].items()})
        for item in result["breakdown"]
    ]
    if not rows:
        return section("Where the time goes", paragraph(NEEDS_TIMERS))
    cells = [[label, *(row.get(part, "") for part in PARTS), sum(row.values())] for label, row in rows]
    guard = result.get("guard", {})
    words = [f"{name}: {what}" for name, what in PARTS.items()]
    return section(
        "Where the time goes",
        paragraph("The mean answer in milliseconds. " + "; ".join(words) + "."),
        bars("Where the time goes", rows, list(PARTS), "milliseconds of a mean answer"),
        table(["", *PARTS, "in all"], cells),
        paragraph(
            f"The guard's own time was measured in process with {guard['events']} events an answer "
            f"(the same app against itself: {1000 * guard['noise']:.2f} ms)."
            if guard
            else "The guard's own time was not measured: it is part of http."
        )
        + paragraph("A server without the guard has no timer that tells the client from HTTP: http holds both."),
    )


def timeline(result: Result) -> str:
    """One block of each system at its widest closed loop: queue, cache, preemptions, client and machine."""
    parts = []
    for arm in dict.fromkeys(block["arm"] for block in result["blocks"] if not block["arm"].endswith(AGAIN)):
        mine = [b for b in result["blocks"] if b["arm"] == arm and b["point"].startswith("c") and b["completed"]]
        if mine:
            block = max(mine, key=lambda b: (not b["void"], int(b["point"][1:]), b["duration"]))
            parts.append(f"<h3>{escape(arm)}, {point_title(block['point'])}, round {block['round'] + 1}</h3>")
            parts.append(strips(f"{arm} over time", figures(block), block["duration"]))
            if not block.get("server"):
                parts.append(paragraph("This server has no metrics of a queue, a cache or preemptions: not measured."))
    note = "Read once a second. Left: what; right: the end of its axis. report.json has the same of every block."
    return section("Over time", paragraph(note), *parts) if parts else ""


def figures(block: Mapping[str, Any]) -> list[Strip]:
    """The strips of one block: what its server says, where it says anything, and what the client saw."""
    rows = []
    if said := block.get("server"):
        at, running, waiting, cache, preempted = zip(*said["moments"], strict=True)
        at = tuple(min(max(time, 0.0), block["duration"]) for time in at)
        rows = [
            Strip("running", list(zip(at, running, strict=True)), 1),
            Strip("waiting", list(zip(at, waiting, strict=True)), 1),
            Strip("KV cache, %", [(time, 100 * value) for time, value in zip(at, cache, strict=True)], 1),
            Strip("preemptions", list(zip(at, preempted, strict=True)), 1),
        ]
    samples = block["client"]["samples"]
    return [
        *rows,
        Strip("client, % of a core", held([(at, 100 * cpu) for at, cpu, _ in samples]), 5),
        Strip("steal, %", held([(at, 100 * steal) for at, _, steal in samples]), 2),
    ]


def held(samples: Line) -> Line:
    """Each sample is the mean of the time since the one before: a step that ends there."""
    starts = [0.0, *(at for at, _ in samples)]
    return [
        place for start, (at, value) in zip(starts, samples, strict=False) for place in ((start, value), (at, value))
    ]


def growth(result: Result) -> str:
    """Time over how much was asked for at once, with the fits."""
    found = result["growth"]
    if not found:
        command = "<pre>python -m benchmarks full</pre>"
        return section("Growth", paragraph("Not measured in this run. This does it:"), command)
    axes = {
        "requests": ("requests at once", "until all are answered", "request"),
        "prompt": ("prompt, tokens", "to the first token", "token"),
    }
    charts, rows = [], []
    for kind, systems in found.items():
        across, up, one = axes[kind]
        lines = {name: [(x, y) for x, y in fitted["points"]] for name, fitted in systems.items()}
        charts.append(f"<div><h3>Seconds {up}</h3>{plot(f'seconds {up}', lines, (across, 'seconds'))}</div>")
        for name, fitted in systems.items():
            per, power = scaled(fitted["slope"], 1000), fitted["exponent"]
            rows.append([name, f"one more {one}", f"{between(per)} ms", between(power), fitted["used"]])
    note = (
        "Slope of the fitted line and exponent of the fitted power (1: twice as much takes twice as long), each with "
        "its 95 % interval."
    )
    head = ["", "costs", "slope", "exponent", "blocks"]
    return section("Growth", f'<div class="pair">{"".join(charts)}</div>', table(head, rows), paragraph(note))


def scaled(fitted: Mapping[str, float | None], factor: float) -> dict[str, float | None]:
    return {key: None if value is None else factor * value for key, value in fitted.items()}


def between(fitted: Mapping[str, float | None]) -> str:
    """ "8.3 (8.1 to 8.5)"; two points have no interval."""
    if fitted["low"] is None:
        return f"{fitted['value']:.3g} (no interval)"
    return f"{fitted['value']:.3g} ({fitted['low']:.3g} to {fitted['high']:.3g})"


def startup(result: Result) -> str:
    """Seconds from the start to the first token, and memory."""
    found = result["startup"]
    if not found:
        command = "<pre>python -m benchmarks startup</pre>"
        return section("Start-up", paragraph("Not measured in turns in this run. This does it:"), command)
    rows = []
    for arm, times in found["startup_s"].items():
        ratio = found["ratios"].get(arm)
        seconds = ", ".join(f"{value:.1f}" for value in times)
        memory = f"{found['memory_bytes'][arm] / GIB:.2f}"
        rows.append([arm, seconds, fmean(times), memory, interval(ratio) if ratio else ""])
    first = next(iter(found["startup_s"]))
    head = ["", "each start, s", "mean, s", "memory, GiB", f"time of {first} over this one's"]
    return section("Start-up", paragraph("From the start of the process to the first token."), table(head, rows))
