"""Charts as inline SVG. Colours are CSS variables of the page, so that one chart reads on light and on dark."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Line = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 14, 46
ROW = 26
COLOURS = 6


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values within the scale, about five."""
        if self.log:
            steps = (1, 2, 5) if self.high / self.low < 300 else (1,)
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [v for power in powers for step in steps if self.low <= (v := step * 10.0**power) <= self.high]
        step = nice((self.high - self.low) / 6)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def nice(step: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def around(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    """Limits with some air; a linear scale starts at 0."""
    if log:
        return min(values) / 1.15, max(values) * 1.15
    return 0.0, (max(values) or 1.0) * 1.08


def number(value: float) -> str:
    """Short and plain: 1,200 or 0.05."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(x: float, y: float, content: str, anchor: str = "middle", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(content)}</text>'


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A picture that scales with the page and has a name for screen readers."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def grid(x: Scale, y: Scale, x_title: str, y_title: str) -> list[str]:
    """Both axes with their lines and titles."""
    parts = []
    for value in x.ticks():
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{y.end}" y2="{y.start}"/>')
        parts.append(text(x(value), y.start + 16, number(value)))
    for value in y.ticks():
        parts.append(f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(text(x.start - 6, y(value) + 4, number(value), "end"))
    middle = (y.start + y.end) / 2
    parts.append(text((x.start + x.end) / 2, y.start + 36, x_title, kind="title"))
    parts.append(f'<g transform="rotate(-90 14 {middle:.0f})">{text(14, middle, y_title, kind="title")}</g>')
    return parts


def legend(names: Sequence[str]) -> str:
    """What colour is which, beside or under a chart."""
    items = (f'<span><i class="c{place % COLOURS}"></i>{escape(name)}</span>' for place, name in enumerate(names))
    return f'<p class="legend">{"".join(items)}</p>'


def plot(
    title: str,
    lines: Mapping[str, Line],
    titles: tuple[str, str],
    *,
    log_x: bool = False,
    dots: bool = True,
    level: float | None = None,
    steps: bool = False,
) -> str:
    """One line a name. `level` draws a horizontal one; `steps` holds each value until the next."""
    xs, ys = ([point[axis] for line in lines.values() for point in line] for axis in (0, 1))
    x = Scale(*around(xs, log=log_x), LEFT, WIDTH - RIGHT, log=log_x)
    y = Scale(*around([*ys, level or 0], log=False), HEIGHT - BOTTOM, TOP)
    parts = grid(x, y, *titles)
    if level is not None:
        parts.append(f'<line class="level" x1="{x.start}" x2="{x.end}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
    for place, (name, line) in enumerate(lines.items()):
        parts += curve(line, x, y, f"c{place % COLOURS}", name, dots=dots, steps=steps)
    return f"<figure>{svg(WIDTH, HEIGHT, title, parts)}{legend(list(lines))}</figure>"


def curve(
    line: Line,
    x: Callable[[float], float],
    y: Callable[[float], float],
    kind: str,
    name: str,
    *,
    dots: bool,
    steps: bool,
) -> list[str]:
    """A line through its points, each with its values on hover."""
    places = [(x(a), y(b)) for a, b in line]
    if steps:
        places = [
            corner
            for (a, b), (c, _) in zip(places, [*places[1:], places[-1]], strict=True)
            for corner in ((a, b), (c, b))
        ]
    parts = [f'<polyline class="{kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in places)}"/>']
    if dots:
        parts += [
            f'<circle class="{kind}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="4">'
            f"<title>{escape(name)}: {number(a)}, {number(b)}</title></circle>"
            for a, b in line
        ]
    return parts


def distribution(values: Sequence[float]) -> Line:
    """The share of values up to each, in percent, at no more than 200 places."""
    ordered = sorted(values)
    stride = max(1, len(ordered) // 200)
    kept = range(stride - 1, len(ordered), stride)
    line = [(ordered[place], 100 * (place + 1) / len(ordered)) for place in kept]
    return [*line, (ordered[-1], 100.0)]


@dataclass(frozen=True)
class Row:
    """One line of a forest plot: a ratio with its interval, and the interval of the noise around 1."""

    label: str
    value: float
    low: float
    high: float
    noise: tuple[float, float]
    verdict: str


def forest(title: str, rows: Sequence[Row], x_title: str) -> str:
    """Ratios on a log scale, each over the band that the A/A arm shows."""
    ends = [edge for row in rows for edge in (row.value, row.low, row.high, *row.noise) if 0 < edge < math.inf]
    left, right, width = 230, 600, 850
    x = Scale(min(*ends, 0.9) / 1.05, max(*ends, 1.1) * 1.05, left, right, log=True)
    bottom = TOP + ROW * len(rows)
    parts = []
    for value in fine_ticks(x):
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(text(x(value), bottom + 16, number(value)))
    for place, row in enumerate(rows):
        parts += forest_row(row, x, TOP + ROW * (place + 0.5), right, width)
    parts.append(f'<line class="one" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{TOP}" y2="{bottom}"/>')
    parts.append(text((left + right) / 2, bottom + 36, x_title, kind="title"))
    return svg(width, bottom + 44, title, parts)


def fine_ticks(x: Scale) -> list[float]:
    """Ticks of a ratio axis: powers and halves where it is wide, tenths where it is narrow."""
    return x.ticks() if x.high / x.low > 5 else Scale(x.low, x.high, x.start, x.end).ticks()


def forest_row(row: Row, x: Scale, y: float, right: float, width: float) -> list[str]:
    """The noise as a band, the interval as a line, the ratio as a dot, and all of it in words."""

    def within(value: float) -> float:
        return x(min(max(value, x.low), x.high))

    low, high, start, end = (within(edge) for edge in (*row.noise, row.low, row.high))
    words = (
        f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})" if row.high < math.inf else f"{row.value:.2f} (one pair)"
    )
    return [
        f'<rect class="band" x="{low:.1f}" y="{y - ROW / 2 + 2:.1f}" width="{high - low:.1f}" height="{ROW - 4}"/>',
        f'<line class="interval {row.verdict}" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>',
        f'<circle class="dot {row.verdict}" cx="{x(row.value):.1f}" cy="{y}" r="5"/>',
        text(4, y + 4, row.label, "start"),
        text(right + 14, y + 4, words, "start"),
        text(width - 4, y + 4, row.verdict, "end", kind="note"),
    ]
