"""Several figures over one time axis, one strip each, as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.charts import Line, Scale, curve, number, svg, text

LEFT, RIGHT, WIDTH = 150, 690, 760
STRIP, GAP, TOP = 54, 10, 8


@dataclass(frozen=True)
class Strip:
    """One figure over seconds. Its axis ends at `most`, or where the figure does if that is higher."""

    name: str
    line: Line
    most: float


def strips(title: str, rows: Sequence[Strip], seconds: float) -> str:
    """All strips under each other, their time axis below."""
    x = Scale(0.0, seconds, LEFT, RIGHT)
    bottom = TOP + len(rows) * (STRIP + GAP)
    shapes = [
        f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{bottom}"/>' for value in x.ticks()
    ]
    shapes += [text(x(value), bottom + 16, number(value)) for value in x.ticks()]
    for place, row in enumerate(rows):
        shapes += strip(row, x, TOP + place * (STRIP + GAP))
    shapes.append(text((LEFT + RIGHT) / 2, bottom + 36, "seconds", kind="title"))
    return f'<figure class="broad">{svg(WIDTH, bottom + 44, title, shapes)}</figure>'


def strip(row: Strip, x: Scale, top: float) -> list[str]:
    """Its name and largest value to the left and right, its line between."""
    highest = max(value for _, value in row.line)
    y = Scale(0.0, max(row.most, highest), top + STRIP, top + 4)
    edges = [f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at}" y2="{at}"/>' for at in (top + STRIP, top + 4)]
    words = [
        text(LEFT - 10, top + STRIP / 2 + 8, row.name, "end"),
        text(RIGHT + 6, top + 9, number(y.high), "start", "note"),
        text(RIGHT + 6, top + STRIP, "0", "start", "note"),
    ]
    return [*edges, *curve(row.line, x, y, "c0", row.name, dots=False, steps=False), *words]
