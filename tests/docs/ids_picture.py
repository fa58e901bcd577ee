"""The picture of the ids on the README's first screen, docs/images/token-ids.svg: `python -m tests.docs.ids_picture`.

It shows what docs/prompt-format.md shows as text, and takes it from there; tests/docs/test_commands.py holds that text
to the program.
"""

import re
from html import escape
from pathlib import Path

from tests.docs.pages import ROOT, read

PICTURE = ROOT / "docs" / "images" / "token-ids.svg"
SHOWN = re.compile(r"--renderer (\w+) < messages.json\n.*\ntokens  (.*)\nids     (.*)\n")
WIDTH, LEFT, ROW, LETTER = 1080, 16, 52, 8.4
TITLES = {
    "stock": "Stock server: a </s> that the user types ends the turn, and the model reads a question nobody asked",
    "ours": "Here: it stays text. Only the template makes control tokens",
}
# Fill and edge: a control token, what the user typed, the template's own words.
COLOURS = {"control": ("#fdd8d5", "#c62f21"), "typed": ("#e3edfb", "#4a7fc1"), "template": ("#eeeeee", "#8a8a8a")}
STYLE = (
    "text{font:14px ui-monospace,Menlo,Consolas,monospace;fill:#1c1c1c}.i{font-size:11px;fill:#555}"
    ".t{font:600 15px sans-serif}"
)
LEGEND = {"control": "control token", "typed": "typed by the user", "template": "put there by the template"}


def kinds(tokens: list[str]) -> list[str]:
    """What each token is: two of the template's lie before the user's text, and two after it."""
    own = {0, 1, 2, len(tokens) - 2, len(tokens) - 1}
    return [
        "control" if token.startswith("⟦") else "template" if place in own else "typed"
        for place, token in enumerate(tokens)
    ]


def box(x: float, y: float, width: float, kind: str, token: str, number: str) -> str:
    """One token over its id."""
    fill, edge = COLOURS[kind]
    middle = x + width / 2
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="24" rx="4" fill="{fill}" stroke="{edge}"/>'
        f'<text x="{middle:.1f}" y="{y + 17}" text-anchor="middle">{escape(token)}</text>'
        f'<text class="i" x="{middle:.1f}" y="{y + 37}" text-anchor="middle">{number}</text>'
    )


def draw(page: str) -> str:
    """The picture of what a page of the docs shows."""
    parts, y = [], 28
    for renderer, tokens, ids in SHOWN.findall(page):
        parts.append(f'<text class="t" x="{LEFT}" y="{y}">{escape(TITLES[renderer])}</text>')
        x, y = float(LEFT), y + 12
        words = tokens.split()
        for token, kind, number in zip(words, kinds(words), ids.split(), strict=True):
            text = token.strip("⟦⟧")
            width = max(len(text), len(number) * 0.8) * LETTER + 10
            if x + width > WIDTH - LEFT:
                x, y = float(LEFT), y + ROW
            parts.append(box(x, y, width, kind, text, number))
            x += width + 5
        y += ROW + 28
    for place, (kind, meaning) in enumerate(LEGEND.items()):
        fill, edge = COLOURS[kind]
        x = LEFT + place * 230.0
        parts.append(f'<rect x="{x}" y="{y - 22}" width="16" height="16" rx="3" fill="{fill}" stroke="{edge}"/>')
        parts.append(f'<text class="i" x="{x + 24}" y="{y - 10}">{meaning}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">'
        f"<title>The ids of one message on a stock server and here</title><style>{STYLE}</style>"
        f'<rect width="{WIDTH}" height="{y}" rx="8" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def main(path: Path = PICTURE) -> None:
    """Write it."""
    path.write_text(draw(read("docs/prompt-format.md")), encoding="utf-8")


if __name__ == "__main__":
    main()
