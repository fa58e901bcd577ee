"""The picture of a soak: memory, descriptors and latency over the same minutes, as one SVG file for light and dark."""

from collections.abc import Mapping

from benchmarks.charts import Line, Scale, around, curve, number, svg, text

WIDTH, PANEL, LEFT, RIGHT, AIR = 640, 120, 62, 12, 26
MOST_POINTS = 150
STYLE = """<style>
svg { background: #fff; font: 12px system-ui, sans-serif }
text { fill: #5a6675 } .title { fill: #1c2430; font-weight: 600 } .grid { stroke: #dfe4ea }
polyline { fill: none; stroke: #1f6feb; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { svg { background: #12161c } text { fill: #9aa7b6 } .title { fill: #e4e9f0 }
.grid { stroke: #2d3540 } polyline { stroke: #6cb0ff } }
</style>"""


def picture(lines: Mapping[str, Line]) -> str:
    """A panel for each line, one under the other. The points of a line are (minutes, value), ascending."""
    parts = [STYLE]
    for place, (title, line) in enumerate(lines.items()):
        parts += panel(title, thin(line), place * PANEL, last=place == len(lines) - 1)
    drawn = svg(WIDTH, PANEL * len(lines) + AIR, ", ".join(lines), parts)
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def panel(title: str, line: Line, top: int, *, last: bool) -> list[str]:
    """One line with its axes; the minutes stand under the last panel only."""
    x = Scale(0.0, max(minutes for minutes, _ in line) or 1.0, LEFT, WIDTH - RIGHT)
    y = Scale(*around([value for _, value in line], log=False), top + PANEL, top + AIR)
    parts = [text(LEFT, top + AIR - 8, title, "start", "title")]
    for value in y.ticks()[::2]:
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(text(x.start - 6, y(value) + 4, number(value), "end"))
    if last:
        parts += [text(x(value), y.start + 16, f"{number(value)} min") for value in x.ticks() if value]
    return [*parts, *curve(line, x, y, "", title, dots=False, steps=False)]


def thin(line: Line) -> Line:
    """At most so many points of a line, evenly."""
    return line[:: -(-len(line) // MOST_POINTS)]
