"""Multiple-choice files as they come out of archives and spreadsheets."""

import os
from pathlib import Path

import pytest

from benchmarks.choices import Choice, prompt, read_folder
from benchmarks.console import BenchmarkError

HEAD = ",Question,A,B,C,D,Answer\n"
ROWS = HEAD + '0,"股票代表什么？",所有权,债权,"保险, 理财",贷款,A\n1,债券代表什么？,所有权,债权,保险,贷款, b \n'
EXPECTED = [
    Choice("证券从业资格", "股票代表什么？", ("所有权", "债权", "保险, 理财", "贷款"), "A"),
    Choice("证券从业资格", "债券代表什么？", ("所有权", "债权", "保险", "贷款"), "B"),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_encodings_of_chinese_spreadsheets(tmp_path: Path, encoding: str, ends: str) -> None:
    (tmp_path / "证券从业资格.csv").write_bytes(ROWS.replace("\n", ends).encode(encoding))
    assert read_folder(tmp_path) == {"证券从业资格": EXPECTED}
    assert read_folder(tmp_path / "证券从业资格.csv") == {"证券从业资格": EXPECTED}


def test_a_file_name_in_the_bytes_of_another_encoding(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/" + "证券从业资格.csv".encode("gbk")
    with open(path, "wb") as file:
        file.write(ROWS.encode())
    assert list(read_folder(tmp_path)) == ["证券从业资格"]


def test_columns_in_any_order_empty_rows_and_lines_within_cells(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('Answer,D,C,B,A, Question\nC,4,3,2,1,"How\nmany?"\n,,,,,\n')
    assert read_folder(tmp_path)["x"] == [Choice("x", "How\nmany?", ("1", "2", "3", "4"), "C")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Question,A,B,C,Answer\n", "x.csv: no column D; expected Question, A, B, C, D, Answer"),
        (b"", "x.csv: no column Question, A, B, C, D, Answer"),
        (b"Question,A,B,C,D,Answer\nWhy?,1,2,3,4,A\nWhy?,1,2,3,4,E\n", "x.csv, row 3: Answer='E'"),
        (b"Question,A,B,C,D,Answer\nWhy?,1,2\n", "x.csv, row 2: Answer=''"),
        (b"Question,A,B,C,D,Answer\n\xff\xff\xff", "x.csv: expected text in UTF-8, GBK or GB18030"),
    ],
)
def test_what_is_no_such_file_is_told(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(BenchmarkError) as raised:
        read_folder(tmp_path)
    assert words in str(raised.value)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_without_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BenchmarkError, match="expected a folder of CSV files with the columns Question, A, B"):
        read_folder(tmp_path / name)


def test_prompts() -> None:
    shot, asked = EXPECTED
    assert prompt(asked, [shot]) == (
        "以下是关于证券从业资格的单项选择题，请直接给出正确答案的选项。\n\n"
        "题目：股票代表什么？\nA. 所有权\nB. 债权\nC. 保险, 理财\nD. 贷款\n答案：A\n\n"
        "题目：债券代表什么？\nA. 所有权\nB. 债权\nC. 保险\nD. 贷款\n答案："
    )
    english = Choice("bonds", "Why?", ("1", "2", "3", "4"), "D")
    assert prompt(english, [english]).endswith("D. 4\nAnswer: D\n\nQuestion: Why?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:")
