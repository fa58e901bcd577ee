"""Bars whose parts lie side by side, as inline SVG."""

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.charts import COLOURS, ROW, TOP, Scale, legend, number, svg, text

LEFT, RIGHT, WIDTH = 190, 680, 760


def bars(title: str, rows: Sequence[tuple[str, Mapping[str, float]]], parts: Sequence[str], x_title: str) -> str:
    """One bar a row with its label; `parts` fixes order and colours. Values must not be negative to be seen."""
    most = max(sum(row.values()) for _, row in rows)
    x = Scale(0.0, most * 1.02, LEFT, RIGHT)
    bottom = TOP + ROW * len(rows)
    shapes = []
    for value in x.ticks():
        shapes.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{bottom}"/>')
        shapes.append(text(x(value), bottom + 16, number(value)))
    for place, (label, row) in enumerate(rows):
        shapes += bar(label, row, parts, x, TOP + ROW * place)
    shapes.append(text((LEFT + RIGHT) / 2, bottom + 36, x_title, kind="title"))
    return f'<figure class="broad">{svg(WIDTH, bottom + 44, title, shapes)}{legend(list(parts))}</figure>'


def bar(label: str, row: Mapping[str, float], parts: Sequence[str], x: Scale, top: float) -> list[str]:
    """The parts from left to right, and their sum."""
    shapes = [text(LEFT - 8, top + ROW / 2 + 4, label, "end")]
    start = 0.0
    for place, part in enumerate(parts):
        width = max(0.0, row.get(part, 0.0))
        if width:
            shapes.append(
                f'<rect class="c{place % COLOURS}" x="{x(start):.1f}" y="{top + 4:.1f}" '
                f'width="{x(start + width) - x(start):.1f}" height="{ROW - 8}">'
                f"<title>{escape(part)}: {number(width)}</title></rect>"
            )
        start += width
    return [*shapes, text(x(start) + 8, top + ROW / 2 + 4, number(start), "start", "note")]
