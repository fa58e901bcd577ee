"""Multiple-choice questions from CSV files in FinanceIQ's format: Question, A, B, C, D, Answer; one file a subject."""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.console import BenchmarkError

LETTERS = ("A", "B", "C", "D")
COLUMNS = ("Question", *LETTERS, "Answer")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Of a file without a mark: GB18030 holds GBK and GB2312, and any Chinese spreadsheet writes one of them or UTF-8.
ENCODINGS = ("utf-8", "gb18030")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class Choice:
    """One question. `answer` is one of LETTERS; `subject` the file's name."""

    subject: str
    question: str
    options: tuple[str, ...]
    answer: str

    @property
    def chinese(self) -> bool:
        return bool(CHINESE.search(self.question))

    def text(self, *, solved: bool) -> str:
        """The question as it is asked, up to where its letter goes, or with it."""
        asked, answer = ("题目：", "答案：") if self.chinese else ("Question: ", "Answer:")
        options = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, self.options, strict=True))
        letter = self.answer if self.chinese else f" {self.answer}"
        return f"{asked}{self.question}\n{options}{answer}{letter if solved else ''}"


def prompt(choice: Choice, shots: Sequence[Choice]) -> str:
    """What is completed: a heading, solved examples of the same subject, and the question."""
    if choice.chinese:
        heading = f"以下是关于{choice.subject}的单项选择题，请直接给出正确答案的选项。"
    else:
        heading = f"The following are multiple choice questions about {choice.subject}, with the letter of the answer."
    return "\n\n".join([heading, *(shot.text(solved=True) for shot in shots), choice.text(solved=False)])


def read_folder(path: Path) -> dict[str, list[Choice]]:
    """The questions of every CSV file in a folder, or of one file, by subject. Raises BenchmarkError."""
    files = [path] if path.is_file() else sorted(path.glob("*.csv")) if path.is_dir() else []
    if not files:
        raise BenchmarkError(f"{path}: expected a folder of CSV files with the columns {', '.join(COLUMNS)}")
    return {subject(file): list(read_file(file)) for file in files}


def subject(file: Path) -> str:
    """A file's name as text, also where an archive was unpacked with the bytes of another encoding as its name."""
    name = os.fsencode(file.stem)
    for encoding in ENCODINGS:
        try:
            return name.decode(encoding)
        except UnicodeDecodeError:
            continue
    return name.decode("utf-8", "replace")


def read_file(file: Path) -> Iterator[Choice]:
    """The questions of one file. Raises BenchmarkError that names the file, the row and what was expected."""
    name = subject(file)
    rows = csv.DictReader(io.StringIO(decoded(file, name), newline=""), restval="")
    found = {(column or "").strip(): column for column in rows.fieldnames or ()}
    missing = [column for column in COLUMNS if column not in found]
    if missing:
        raise BenchmarkError(f"{name}.csv: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    for number, row in enumerate(rows, 2):
        cells = {column: str(row[found[column]]).strip() for column in COLUMNS}
        if not any(cells.values()):
            continue
        if cells["Answer"].upper() not in LETTERS or not cells["Question"]:
            raise BenchmarkError(
                f"{name}.csv, row {number}: Answer={cells['Answer']!r}, Question={cells['Question'][:20]!r}: "
                "expected one of A, B, C, D, and a question"
            )
        yield Choice(name, cells["Question"], tuple(cells[letter] for letter in LETTERS), cells["Answer"].upper())


def decoded(file: Path, name: str) -> str:
    """The file's text: by its mark, else UTF-8, else GB18030. Raises BenchmarkError."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"{name}.csv: {error.strerror}") from error
    encodings = next(([encoding] for mark, encoding in MARKS.items() if raw.startswith(mark)), ENCODINGS)
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise BenchmarkError(f"{name}.csv: expected text in UTF-8, GBK or GB18030")
