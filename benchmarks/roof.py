"""The roofline as inline SVG: how fast each phase computes over how much it computes with each byte that it reads."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.charts import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, Scale, grid, legend, number, svg, text

WIDTH = 680
TITLES = ("operations per byte", "GFLOP/s")


def roof(limits: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> str:
    """The two ceilings as a roof, and each (phase, batch) under it, in its system's colour."""
    bandwidth, gemm = limits["bandwidth_gb_s"], limits["gemm_gflop_s"]
    ridge = gemm / bandwidth
    xs = [*(point["flop_per_byte"] for point in points), ridge]
    ys = [*(point["gflop_s"] for point in points), gemm]
    x = Scale(min(xs) / 2, max(xs) * 4, LEFT, WIDTH - RIGHT, log=True)
    y = Scale(min(ys) / 2, max(ys) * 1.6, HEIGHT - BOTTOM, TOP, log=True)
    left = max(x.low, y.low / bandwidth)
    corners = [(left, left * bandwidth), (ridge, gemm), (x.high, gemm)]
    shapes = grid(x, y, *TITLES)
    shapes.append(f'<polyline class="roof" points="{" ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corners)}"/>')
    shapes.append(text(x.end - 4, y(gemm) - 6, f"{number(gemm)} GFLOP/s", "end", "note"))
    shapes.append(text(x(left) + 28, y(left * bandwidth) + 2, f"{number(bandwidth)} GB/s", "start", "note"))
    names = list(dict.fromkeys(point["arm"] for point in points))
    for point in points:
        shapes += mark(point, x, y, names.index(point["arm"]))
    return f"<figure>{svg(WIDTH, HEIGHT, 'Roofline', shapes)}{legend(names)}</figure>"


def mark(point: Mapping[str, Any], x: Scale, y: Scale, place: int) -> list[str]:
    """A dot; the first system also says what it is."""
    batch = point["point"][1:]
    words = "prefill" if point["phase"] == "prefill" else f"decode {batch}"
    at, height = x(point["flop_per_byte"]), y(point["gflop_s"])
    dot = f'<circle class="c{place % COLOURS}" cx="{at:.1f}" cy="{height:.1f}" r="5">'
    hover = f"<title>{escape(point['arm'])}, {words}: {number(point['gflop_s'])} GFLOP/s</title></circle>"
    return [dot + hover, *([text(at + 10, height + 4, words, "start")] if place == 0 else [])]
