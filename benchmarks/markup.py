"""Pieces of the report's markup that its sections share."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

GIB = 1024**3
Result = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Cells as they are given; floats with what digits they need; the last column of text may wrap."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return f"<td>{value:,.0f}</td>" if value >= 1000 else f"<td>{value:.3g}</td>"
        kind = ' class="text"' if isinstance(value, str) and len(value) > 30 else ""
        return f"<td{kind}>{escape(str(value))}</td>"

    lines = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    heads = "".join(f"<th>{escape(word)}</th>" for word in head)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str, kind: str = "soft") -> str:
    return f'<p class="{kind}">{escape(text)}</p>'


def interval(ratio: Result) -> str:
    """ "1.42 (1.35 to 1.50)"; a single pair has no interval."""
    if ratio["high"] is None:
        return f"{ratio['value']:.2f} (one pair, no interval)"
    return f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
