"""Draws the dashboard's panels, as SVG, from the series of a running Prometheus: no Grafana is needed to look.

python deploy/dashboard/picture.py http://127.0.0.1:9090 --minutes 10 > dashboard.svg
"""

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from panels import RANGE, ROWS, WINDOW, Panel

COLUMNS, WIDTH, HEIGHT, GAP = 3, 400, 190, 12
LEFT, TOP, BOTTOM = 52, 30, 44  # inside a panel: for the axis, the title, the legend
POINTS = 120
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#a352cc", "#e02f44", "#1f8a8a", "#b8860b", "#777777")
SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Span:
    """The time shown, in seconds since 1970, and the window of rates in it."""

    start: float
    end: float
    window: int

    def expression(self, expr: str) -> str:
        """A panel's expression with Grafana's variables put in."""
        for name, value in ((WINDOW, f"{self.window}s"), (RANGE, f"{int(self.end - self.start)}s")):
            expr = expr.replace(name, value)
        return expr.replace("$namespace", ".*").replace("$job", ".*")


@dataclass(frozen=True)
class Series:
    """One line: what the legend calls it, and (time, value) points."""

    name: str
    points: tuple[tuple[float, float], ...]


def ask(prometheus: str, expr: str, span: Span) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
    """The series of an expression over the span: labels and finite points. Raises URLError, ValueError."""
    step = max(1, int((span.end - span.start) / POINTS))
    query = urllib.parse.urlencode({"query": expr, "start": span.start, "end": span.end, "step": step})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query_range?{query}", timeout=20) as answer:
        found = json.load(answer)["data"]["result"]
    return [(one["metric"], [(at, float(v)) for at, v in one["values"] if math.isfinite(float(v))]) for one in found]


def series(prometheus: str, panel: Panel, span: Span) -> list[Series]:
    """Everything that a panel shows."""
    found = []
    for query in panel.queries:
        for labels, points in ask(prometheus, span.expression(query.expr), span):
            if points:
                found.append(Series(legend(query.legend, labels), tuple(points)))
    return found


def legend(pattern: str, labels: dict[str, str]) -> str:
    """Grafana's legend with the labels put in."""
    for name, value in labels.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    return pattern or "value"


def number(value: float, unit: str) -> str:
    """A value as an axis shows it."""
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"
    for size, suffix in SUFFIXES:
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def draw(prometheus: str, span: Span) -> str:
    """The whole picture."""
    body, top = [], GAP
    for title, panels in ROWS:
        body.append(text(GAP, top + 18, title, size=15, bold=True))
        top += 28
        for index, panel in enumerate(panels):
            x, y = GAP + index % COLUMNS * (WIDTH + GAP), top + index // COLUMNS * (HEIGHT + GAP)
            body.append(f'<g transform="translate({x},{y})">')
            body += frame(panel, series(prometheus, panel, span), span)
            body.append("</g>")
        top += -(-len(panels) // COLUMNS) * (HEIGHT + GAP)
    width = COLUMNS * (WIDTH + GAP) + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" font-family="sans-serif">'
    return "\n".join([head, f'<rect width="{width}" height="{top}" fill="#f4f5f5"/>', *body, "</svg>"]) + "\n"


def frame(panel: Panel, shown: Sequence[Series], span: Span) -> Iterator[str]:
    """One panel: its title, and a number, bars or lines."""
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" rx="3" fill="#fff" stroke="#d8d9da"/>'
    yield text(10, 19, panel.title, bold=True)
    if not shown:
        yield text(WIDTH / 2, HEIGHT / 2, "no data", anchor="middle", colour="#999")
    elif panel.kind == "stat":
        yield text(WIDTH / 2, HEIGHT / 2 + 22, number(shown[0].points[-1][1], panel.unit), size=52, anchor="middle")
    elif panel.kind == "bargauge":
        yield from bars(panel, shown)
    else:
        yield from lines(panel, shown, span)


def bars(panel: Panel, shown: Sequence[Series]) -> Iterator[str]:
    """The last values, one bar each."""
    most = max(one.points[-1][1] for one in shown) or 1
    for row, one in enumerate(shown[:6]):
        y, value = TOP + 6 + row * 24, one.points[-1][1]
        yield f'<rect x="150" y="{y}" width="{180 * value / most:.1f}" height="16" fill="{COLOURS[row]}"/>'
        yield text(144, y + 13, one.name, anchor="end")
        yield text(156 + 180 * value / most, y + 13, number(value, panel.unit))


def lines(panel: Panel, shown: Sequence[Series], span: Span) -> Iterator[str]:
    """Lines over time with their axis; stacked ones lie upon each other."""
    drawn = stacked(shown) if panel.stacked else list(shown)
    most = panel.most or 1.05 * max(value for one in drawn for _, value in one.points) or 1
    for share in (0, 0.5, 1):
        y = HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#e5e5e5"/>'
        yield text(LEFT - 5, y + 4, number(share * most, panel.unit), size=10, anchor="end", colour="#666")
    for start, end in ((span.start, "start"), (span.end, "end")):
        at = time.strftime("%H:%M:%S", time.gmtime(start))
        yield text(place(start, span), HEIGHT - BOTTOM + 13, at, size=10, anchor=end, colour="#666")
    # The last first, so that what lies upon others does not hide them.
    for index, one in reversed(list(enumerate(drawn))):
        path = " ".join(f"{place(at, span):.1f},{height(value, most):.1f}" for at, value in one.points)
        colour = COLOURS[index % len(COLOURS)]
        if panel.stacked:
            first, last = (place(one.points[end][0], span) for end in (0, -1))
            foot = f"{last:.1f},{height(0, most):.1f} {first:.1f},{height(0, most):.1f}"
            yield f'<polygon points="{path} {foot}" fill="{colour}"/>'
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    yield from names(one.name for one in shown)


def stacked(shown: Sequence[Series]) -> list[Series]:
    """Each series upon those before it."""
    below: dict[float, float] = {}
    drawn = []
    for one in shown:
        for at, value in one.points:
            below[at] = below.get(at, 0.0) + value
        drawn.append(Series(one.name, tuple((at, below[at]) for at, _ in one.points)))
    return drawn


def names(shown: Iterable[str]) -> Iterator[str]:
    """The legend, on two lines at most."""
    x, y = 10.0, HEIGHT - 16
    for index, name in enumerate(shown):
        room = 22 + 5.6 * len(name)
        if x + room > WIDTH and x > 10:
            x, y = 10.0, y + 12
        if y > HEIGHT - 3:
            return
        yield f'<rect x="{x:.0f}" y="{y - 5}" width="10" height="3" fill="{COLOURS[index % len(COLOURS)]}"/>'
        yield text(x + 13, y, name, size=10)
        x += room


def place(at: float, span: Span) -> float:
    """A time's x inside a panel."""
    return LEFT + (at - span.start) / (span.end - span.start) * (WIDTH - LEFT - 10)


def height(value: float, most: float) -> float:
    """A value's y inside a panel."""
    return HEIGHT - BOTTOM - min(value / most, 1) * (HEIGHT - TOP - BOTTOM)


def text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", colour: str = "#222", bold: bool = False
) -> str:
    """One line of text."""
    weight = ' font-weight="600"' if bold else ""
    style = f'font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def main() -> None:
    """Draw the last minutes."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("prometheus", help="its address, such as http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60, help="how much time is shown (default: %(default)g)")
    parser.add_argument("--window", type=int, default=60, help="the window of rates, in seconds (default: %(default)s)")
    args = parser.parse_args()
    now = time.time()
    print(draw(args.prometheus, Span(now - 60 * args.minutes, now, args.window)), end="")


if __name__ == "__main__":
    main()
