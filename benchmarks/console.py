"""What every command shares: its parser, progress on stderr, results on stdout, and the one error users see."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

EXIT_FAILED = 3
EXIT_CONFIGURATION = 2


class BenchmarkError(Exception):
    """An expected failure. Its text is shown to the user as it is, without a stack trace."""


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and offers the near name of an unknown flag."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with the exit code for bad configuration."""
        unknown = message.removeprefix("unrecognized arguments: ") if message.startswith("unrecognized") else ""
        close = get_close_matches(unknown.split("=")[0].split()[0], self._option_string_actions, 1) if unknown else []
        hint = f" (did you mean {close[0]}?)" if close else ""
        self.exit(EXIT_CONFIGURATION, f"{self.prog}: {message}{hint}; see {self.prog} --help\n")


def log(message: str) -> None:
    """Print one progress line to stderr at once."""
    print(message, file=sys.stderr, flush=True)


def time_left(seconds: float) -> str:
    """For the progress line; nothing where it is not known yet."""
    return f", about {seconds / 60:.1f} min left" if seconds else ""


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows of cells as aligned text: the first column to the left, the others to the right."""
    cells = [[f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{'<' if place == 0 else '>'}{widths[place]}}" for place, cell in enumerate(row)).rstrip()
        for row in cells
    )


def finish(result: Mapping[str, Any], text: str, *, only_json: bool) -> None:
    """Print the text for people, unless only JSON is wanted; the last line is always the JSON object."""
    if not only_json:
        print(text, end="\n\n")
    print(json.dumps(result, ensure_ascii=False), flush=True)
