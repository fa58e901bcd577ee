"""Colour on a terminal, and text that cannot drive one."""

import os
from collections.abc import Mapping
from typing import Literal, TextIO

Style = Literal["bold", "dim", "red", "green", "yellow"]

CODES: Mapping[Style, int] = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}

# Control characters become their pictures (U+2400 …), C1 ones a replacement character; a carriage return is dropped.
PICTURES = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **{code: 0xFFFD for code in range(0x80, 0xA0)},
    ord("\r"): None,
    ord("\n"): "\n",
    ord("\t"): "\t",
}


def has_colour(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour what goes to `stream`: a terminal, NO_COLOR unset or empty (no-color.org), not a dumb one."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def paint(text: str, style: Style, stream: TextIO) -> str:
    """`text` in a style if `stream` shows colour, else as it is."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if has_colour(stream) else text


def printable(text: str) -> str:
    """`text` without what a terminal would obey: what comes from a model or a server must not move its cursor."""
    return text.translate(PICTURES)
