"""The pages of the documentation, and what stands in them: blocks of commands, links, headings."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.source import ROOT

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
# The note on a block: the last line in front of it that is not empty.
NOTE = re.compile(r"<!-- (?P<kind>run|not run): (?P<text>[^\n]*) -->\n*\Z")
COMMAND = ("sh", "console")
PATTERNS = ("*.md", "docs/**/*.md", "helm/*/*.md", "examples/**/*.md")


@dataclass(frozen=True)
class Block:
    """One fenced block. `note` is ("not run", why), ("run", with what) or ("", ""). `line` is where it begins."""

    page: str
    line: int
    language: str
    code: str
    note: tuple[str, str]

    @property
    def code_alone(self) -> str:
        """The commands: of a session, without what they print; of a program, nothing that a shell would run."""
        if self.language == "python":
            return ""
        if self.language == "sh":
            return self.code
        return "\n".join(line[2:] for line in self.code.splitlines() if line.startswith("$ "))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page for people, relative to the root."""
    found = [path for pattern in PATTERNS for path in ROOT.glob(pattern) if "node_modules" not in path.parts]
    return sorted(path.relative_to(ROOT) for path in found)


def read(page: Path | str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = read(page)
    for found in FENCE.finditer(text):
        note = NOTE.search(text[: found.start()])
        yield Block(
            str(page),
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["code"],
            (note["kind"], note["text"]) if note else ("", ""),
        )


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", read(page))


def shell_words(line: str) -> shlex.shlex:
    """A line's words and operators as the shell takes them, without its comment. Raises ValueError while it is read."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return lexer


def links(page: Path) -> Iterator[str]:
    """What a page links to in this repository: a path, an anchor, or both."""
    for found in re.finditer(r"\]\((?![a-z]+:)([^)\s]+)\)", prose(page)):
        yield found[1]


def anchors(page: Path | str) -> set[str]:
    """The names under which GitHub's pages have the headings."""
    names: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        number = sum(other == name or re.fullmatch(rf"{re.escape(name)}-\d+", other) is not None for other in names)
        names.add(f"{name}-{number}" if number else name)
    return names
