"""The result of the precision gate as one HTML file that needs nothing else."""

from collections.abc import Mapping
from html import escape
from math import inf
from typing import Any

from benchmarks.charts import Row, forest
from benchmarks.markup import paragraph, section, table
from benchmarks.page import CSS
from benchmarks.schedule import AGAIN

TITLES = {
    "perplexity_ratio": "Perplexity, as a multiple",
    "agreement": "The same token likeliest, share of places",
    "stop_rate_change": "Answers that end by themselves, change of their share",
    "length_ratio": "Length of answers, as a multiple",
    "accuracy_change": "Right answers, change of their share",
}
# On a scale of ratios; the others are shares, which a table shows as well.
DRAWN = ("perplexity_ratio", "length_ratio")
Result = Mapping[str, Any]


def page(result: Result, command: str) -> str:
    """The whole file. `result` is the command's JSON object."""
    outcome = "No limit is failed." if result["passed"] else "Failed: " + "; ".join(failed(result))
    parts = [
        f'<div class="answer">{paragraph(outcome, "")}</div>',
        section("Against the first form", *charts(result), findings(result)),
        section("Each form by itself", levels(result)),
        section("How to get this again", f"<pre>{escape(command)}</pre>"),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Precision gate</title><style>{CSS}</style></head><body>"
        f"<h1>Precision gate</h1>{''.join(parts)}</body></html>\n"
    )


def failed(result: Result) -> list[str]:
    return [f"{item['form']}, {TITLES[item['metric']].lower()}" for item in result["gate"] if item["verdict"] == "fail"]


def charts(result: Result) -> list[str]:
    """A forest plot of each ratio: the band is what the first form shows against itself."""
    parts = []
    for metric in DRAWN:
        found = [item for item in result["gate"] if item["metric"] == metric]
        noise = next(((item["low"], item["high"]) for item in found if item["form"].endswith(AGAIN)), (1.0, 1.0))
        rows = [Row(item["form"], item["value"], item["low"], item["high"], noise, item["verdict"]) for item in found]
        parts.append(f'<div class="wide">{forest(TITLES[metric], rows, TITLES[metric])}</div>')
    return parts


def findings(result: Result) -> str:
    rows = [
        [item["form"], TITLES[item["metric"]], words(item), limits(item), item["verdict"]] for item in result["gate"]
    ]
    return table(["", "", "value", "limit", "verdict"], rows)


def levels(result: Result) -> str:
    names = list(next(iter(result["levels"].values())))
    rows = [[form, *(words(found[name]) for name in names)] for form, found in result["levels"].items()]
    return table(["", *(name.replace("_", " ") for name in names)], rows)


def words(item: Mapping[str, Any]) -> str:
    return f"{item['value']:.3g} ({item['low']:.3g} to {item['high']:.3g})"


def limits(item: Mapping[str, Any]) -> str:
    least, most = (inf if item[name] is None else item[name] for name in ("least", "most"))
    return " to ".join(f"{edge:.3g}" for edge in (least, most) if edge < inf)
