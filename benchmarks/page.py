"""The report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from benchmarks.charts import Row, distribution, forest, plot
from benchmarks.markup import GIB, Result, interval, paragraph, section, table
from benchmarks.page_time import growth, startup, timeline, where_time_goes
from benchmarks.roof import roof
from benchmarks.schedule import AGAIN, point_title

CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
TITLES = {
    "output_throughput": "throughput",
    "median_ttft_ms": "first token",
    "mean_tpot_ms": "each later token",
}
Latencies = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]


def answer(result: Result) -> str:
    """Users within the SLO where they were searched for, and throughput against each baseline."""
    lines = []
    for name, found in result["capacity"].items():
        high = found["users_interval"][1]
        upper = f"fewer than {high + 1}" if high is not None else "the most that was tried"
        lines.append(
            f"{name}: {found['users']} users within the SLO ({upper}); {found['capacity']:.2f} requests a second, "
            f"{found['attain']:.0%} of them in time, {found['think_time']:g} s between questions"
        )
    for item in result["ratios"]:
        if item["metric"] == "output_throughput" and item["point"].startswith("c"):
            lines.append(
                f"{point_title(item['point'])}, {item['first']} gives {interval(item['ratio'])} times the tokens/s of "
                f"{item['second']}: {item['verdict']}; against itself {interval(item['noise'])}"
            )
    lines += [
        f"from the start to the first token {first} takes {interval(ratio)} of the time of {name}"
        for first in [next(iter(result["startup"].get("startup_s", {})), "")]
        for name, ratio in result["startup"].get("ratios", {}).items()
        if not name.endswith(AGAIN)
    ]
    lines = lines or [
        f"{item['arm']}, {point_title(item['point'])}: {item['output_throughput']:.1f} tokens/s"
        for item in result["points"]
    ]
    return f'<div class="answer">{"".join(paragraph(line, "") for line in lines)}</div>'


def attainment(result: Result) -> str:
    """Share of requests within the SLO at each rate that was tried."""
    if not result["capacity"]:
        return ""
    lines = {
        name: sorted((probe["rate"], 100 * probe["attainment"]) for probe in found["probes"])
        for name, found in result["capacity"].items()
    }
    level = 100 * max(found["attain"] for found in result["capacity"].values())
    chart = plot("SLO attainment over rate", lines, ("requests a second", "within the SLO, %"), log_x=True, level=level)
    return section("Within the SLO", chart, paragraph("The dashed line is the share that was asked for."))


def ratios(result: Result) -> str:
    """The forest plot."""
    rows = []
    for item in result["ratios"]:
        ratio, noise = item["ratio"], item["noise"]
        label = f"{TITLES[item['metric']]}, {point_title(item['point'])}"
        if len(result["systems"]) > 2:
            label = f"{item['second']}: {label}"
        ends = [float("inf") if side["high"] is None else side["high"] for side in (ratio, noise)]
        rows.append(Row(label, ratio["value"], ratio["low"], ends[0], (noise["low"], ends[1]), item["verdict"]))
    if not rows:
        return ""
    first = result["ratios"][0]["first"]
    chart = forest("Paired ratios", rows, f"times better: {first} against the others")
    return section(
        "Ratios",
        f'<div class="wide">{chart}</div>',
        paragraph(
            "Each dot is the geometric mean over rounds, its line the 95 % bootstrap interval. The band is what the "
            "first system shows against itself. A difference counts only if its interval excludes 1 and it passes both "
            "3 % and the band; with fewer than four pairs it is unknown."
        ),
    )


def pace(result: Result) -> str:
    """What the box gives over what one user sees."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for item in result["points"]:
        if item["tokens_per_user"] and item["point"].startswith("c") and not item["arm"].endswith(AGAIN):
            lines.setdefault(item["arm"], []).append((item["tokens_per_user"], item["output_throughput"]))
    if not lines:
        return ""
    ordered = {name: sorted(line) for name, line in lines.items()}
    return section(
        "Throughput and pace", plot("Throughput over pace", ordered, ("tokens/s per user", "tokens/s in all"))
    )


def distributions(latencies: Latencies) -> str:
    """Cumulative distributions of TTFT and TPOT, side by side for each load."""
    parts = []
    for point in latencies["ttfts"]:
        charts = []
        for kind, title in (("ttfts", "first token, ms"), ("tpots", "each later token, ms")):
            lines = {
                name: distribution([1000 * value for value in values])
                for name, values in latencies[kind].get(point, {}).items()
                if values
            }
            if lines:
                charts.append(f"<div>{plot(title, lines, (title, 'requests, %'), dots=False, steps=True)}</div>")
        parts.append(f'<h3>{escape(point_title(point))}</h3><div class="pair">{"".join(charts)}</div>')
    return section("Latencies", *parts)


def numbers(result: Result) -> str:
    """One row an arm and load."""
    head = ["", "load", "blocks", "tokens/s", "TTFT p50, ms", "p99, ms", "TPOT mean, ms", "p99, ms"]
    keys = ("output_throughput", "median_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms")
    rows = [
        [item["arm"], point_title(item["point"]), f"{item['used']} of {item['blocks']}", *(item[key] for key in keys)]
        for item in result["points"]
    ]
    return section("Numbers", table(head, rows))


def systems(result: Result) -> str:
    """How each was started, how long that took and what it holds; or why it is absent."""
    parts = []
    for name, system in result["systems"].items():
        parts.append(f"<h3>{escape(name)}</h3>")
        if system["absent"]:
            parts.append(paragraph(f"absent: {system['absent']}"))
            continue
        seconds = ", ".join(f"{value:.1f}" for value in result.get("startup_s", {}).get(name, []) if value)
        memory = result.get("memory_bytes", {}).get(name)
        facts = [f"first token after {seconds} s"] * bool(seconds) + [f"{(memory or 0) / GIB:.2f} GiB"] * bool(memory)
        variables = [f"{key}={shlex.quote(value)}" for key, value in system["env"].items() if key != "PATH"]
        parts.append(paragraph("; ".join(facts)) if facts else "")
        parts.append(f"<pre>{escape(' '.join([*variables, shlex.join(system['command'])]) or system['url'])}</pre>")
    return section("Systems", *parts)


def ceilings(result: Result) -> str:
    """What the machine can do at most, and how near the engine came."""
    found = result.get("ceilings")
    if not found:
        return ""
    words = (
        f"Measured in this run with {found['threads']} threads: {found['bandwidth_gb_s']:.1f} GB/s read, "
        f"{found['gemm_gflop_s']:,.0f} GFLOP/s in {found['dtype']}."
    )
    head = ["", "phase", "load", "step, ms", "at least, ms", "MBU, %", "MFU, %"]
    rows = [
        [
            item["arm"],
            item["phase"],
            point_title(item["point"]),
            item["step_ms"],
            item["floor_ms"],
            100 * item["mbu"],
            100 * item["mfu"],
        ]
        for item in result["roofline"]
    ]
    if not rows:
        return section("How far from the limit", paragraph(words))
    sheet = result["gpu"]["datasheet_gb_s"]
    if sheet:
        head.append("MBU of the datasheet, %")
        part = found["bandwidth_gb_s"] / sheet
        rows = [[*row, 100 * part * item["mbu"]] for row, item in zip(rows, result["roofline"], strict=True)]
        words += f" The datasheet has {sheet:,.0f} GB/s."
    note = (
        "A decode step makes one token for each request; a prefill reads one prompt. MBU: share of the measured read "
        "bandwidth; MFU: share of the measured GEMM rate."
    )
    return section(
        "How far from the limit", paragraph(words), roof(found, result["roofline"]), table(head, rows), paragraph(note)
    )


def voided(result: Result) -> str:
    """Blocks that must not be believed, and why."""
    rows = [
        [item["round"] + 1, item["arm"], point_title(item["point"]), "; ".join(item["reasons"])]
        for item in result["void"]
    ]
    count = f"{len(rows)} of {len(result['blocks'])} blocks are void: they are left out wherever others remain."
    return section("Void blocks", paragraph(count), table(["round", "arm", "load", "why"], rows) if rows else "")


def provenance(result: Result) -> str:
    """Machine, versions, seeds, and the command."""
    machine = result["machine"]
    rows = [
        ["machine", f"{machine['processor']}, {machine['cores']} cores, {machine['memory_bytes'] / GIB:.1f} GiB"],
        ["system", machine["system"]],
        ["commit", result["commit"] or "unknown"],
        *result["versions"].items(),
        *(("asked for: " + key, str(value)) for key, value in result["asked"].items()),
        ["seeds of the blocks", ", ".join(str(seed) for seed in sorted({b["seed"] for b in result["blocks"]}))],
        ["measured", f"{result['blocks'][0]['date']} and later"],
    ]
    lines = "".join(f'<tr><td>{escape(name)}</td><td class="text">{escape(value)}</td></tr>' for name, value in rows)
    return section(
        "How to get this again",
        f"<pre>{escape(result['command'])}</pre>",
        f'<div class="wide"><table>{lines}</table></div>',
    )


def gpu(result: Result) -> str:
    """What a GPU would show, and how to have it shown."""
    if result["gpu"]["measured"]:
        return section("On a GPU", paragraph(f"This report was measured on one: {result['ceilings']['device_name']}."))
    command = f"<pre>{escape(result['gpu']['command'])}</pre>"
    return section(
        "On a GPU",
        paragraph("Not measured: no GPU was at hand. On a machine with one, this fills the same sections:"),
        command,
    )


def page(result: Result, latencies: Latencies) -> str:
    """The whole file."""
    parts = [
        answer(result),
        attainment(result),
        ratios(result),
        pace(result),
        ceilings(result),
        where_time_goes(result),
        growth(result),
        startup(result),
        numbers(result),
        distributions(latencies),
        timeline(result),
        systems(result),
        voided(result),
        gpu(result),
        provenance(result),
    ]
    machine = result["machine"]
    under = f"{result['model'] or 'servers that ran already'} · {machine['processor']}, {machine['cores']} cores"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Benchmark report</title><style>{CSS}</style></head><body>"
        f"<h1>Benchmark report</h1>{paragraph(under)}{''.join(parts)}</body></html>\n"
    )
