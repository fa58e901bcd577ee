"""Commands of this project in a page, and whether its parsers know their words. Nothing is run."""

import argparse
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NoReturn

from benchmarks.__main__ import COMMANDS as BENCHMARKS
from serving.cli import COMMANDS, Parser, split
from tests.docs.pages import COMMAND, blocks, prose, shell_words
from tests.docs.source import HOLE, ROOT

VARIABLES = ("MODEL", "HOST", "PORT", "DEVICE", "ARGS", "PYTHON")
# Where a command begins: a line, a prompt, after a pipe or an assignment, or by its path in .venv.
OURS = re.compile(
    r"(?:^|[|&;$] ?|\.venv/bin/|[A-Z_]+=\S+ )(xuanyuan [a-z][^`\n]*|python -m benchmarks[^`\n]*|make [a-z-][^`\n]*)"
)
# The end of a command, as the shell sees it.
ENDS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "#"}


class Unknown(Exception):
    """A word that the command does not take."""


def command_lines(page: Path) -> Iterator[str]:
    """Every command of ours on a page: in the blocks of commands, and in the text between backquotes."""
    for block in blocks(page):
        if block.language in COMMAND:
            code = block.code.replace("\\\n", " ")
            yield from (found[1] for line in code.splitlines() for found in OURS.finditer(line.strip()))
    yield from (found[1] for span in re.findall(r"`([^`\n]+)`", prose(page)) for found in OURS.finditer(span))


def words(line: str) -> list[str]:
    """The words of a command, up to where the shell ends it; what stands for anything is left out."""
    found: list[str] = []
    for word in shell_words(line):
        if word in ENDS:
            break
        if word != HOLE:
            found.append(word)
    return found


def check(line: str) -> None:
    """Raises Unknown where a command, flag, make target or variable does not exist."""
    first, *rest = words(line)
    if first == "make":
        check_make(rest)
    elif first == "xuanyuan":
        name, *given = rest
        parse(parser("serving.commands", name), split(given)[0])
    elif rest[1] == "benchmarks":
        if len(rest) > 2 and rest[2] != "COMMAND":
            parse(parser("benchmarks.commands", rest[2]), rest[3:])
    else:
        path = ROOT / (rest[1].replace(".", "/") + ".py")
        if not path.exists():
            raise Unknown(f"no module {rest[1]}")


def check_make(given: list[str]) -> None:
    """Targets and variables of the Makefile."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in given[2 if given[:1] == ["-C"] else 0 :]:
        name, equals, _ = word.partition("=")
        if name not in (VARIABLES if equals else targets):
            raise Unknown(f"make: {word}")


@cache
def parser(package: str, name: str) -> argparse.ArgumentParser:
    """A command's parser, which refuses unknown flags and takes any value. Raises Unknown for an unknown command."""
    if name not in {"serving.commands": COMMANDS, "benchmarks.commands": BENCHMARKS}[package]:
        raise Unknown(f"{package}: no command {name}")
    made = Lenient(prog=name)
    importlib.import_module(f"{package}.{name.replace('-', '_')}").add_arguments(made)
    return made


class Lenient(Parser):
    """Takes what stands for a value ("N", "PATH"), and does without what a text leaves out."""

    def error(self, message: str) -> NoReturn:
        """Raise Unknown, unless only the values are not real."""
        raise Unknown(message)

    def _get_value(self, action: argparse.Action, text: str) -> str:
        return text

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if isinstance(action, argparse._SubParsersAction):
            super()._check_value(action, value)


def parse(known: argparse.ArgumentParser, given: list[str]) -> None:
    """Raises Unknown for a flag that the parser does not have."""
    try:
        known.parse_args(given)
    except Unknown as unknown:
        if not str(unknown).startswith("the following arguments are required") and "expected" not in str(unknown):
            raise
