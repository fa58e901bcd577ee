"""What the pages say of themselves: links lead somewhere, languages agree, tables are what the code makes."""

import re
from pathlib import Path

import pytest

from serving.commands.config import markdown
from serving.config import FIELDS
from tests.docs.command_line import Unknown, check, command_lines
from tests.docs.ids_picture import PICTURE, draw
from tests.docs.pages import COMMAND, anchors, blocks, links, pages, prose, read
from tests.docs.source import ROOT

PAGES = pages()
TRANSLATED = ("quick-start", "choosing", "prompt-format", "configuration", "operating", "page")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        goal = (ROOT / page.parent / path).resolve() if path else ROOT / page
        if not goal.exists() or (anchor and anchor not in anchors(goal.relative_to(ROOT))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_are_named_exist(page: Path) -> None:
    """`serving/…`, `docs/…` and the like between backquotes."""
    named = re.findall(
        r"`((?:serving|benchmarks|chat_template|tests|docs|deploy|helm|requirements)/[\w./-]*\w)`", prose(page)
    )
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_and_flags_exist(page: Path) -> None:
    wrong = []
    for line in command_lines(page):
        try:
            check(line)
        except Unknown as unknown:
            wrong.append(f"{line}: {unknown}")
    assert wrong == []


def test_a_wrong_command_is_seen() -> None:
    for line in (
        "xuanyuan serv MODEL",
        "xuanyuan serve MODEL --prot 1",
        "xuanyuan keys destroy NAME",
        "python -m benchmarks lode",
        "python -m benchmarks load --rates 1",
        "python -m benchmarks.nothing",
        "make sreve",
        "make serve MODLE=x",
    ):
        with pytest.raises(Unknown):
            check(line)


def test_the_index_names_every_guide() -> None:
    listed = {link.partition("#")[0] for link in links(Path("docs/README.md"))}
    guides = {str(page.relative_to("docs")) for page in PAGES if page.parts[0] == "docs"}
    assert guides - {"README.md"} - listed == set()


@pytest.mark.parametrize("name", TRANSLATED)
def test_both_languages_have_the_same_commands_and_tables(name: str) -> None:
    english, chinese = Path(f"docs/{name}.md"), Path(f"docs/{name}.zh-CN.md")

    def commands(page: Path) -> list[tuple[str, str]]:
        code = [block for block in blocks(page) if block.language in (*COMMAND, "python")]
        return [(block.language, re.sub(r"\s+#.*", "", block.code)) for block in code]

    def shape(page: Path) -> list[int]:
        return [line.count("|") for line in prose(page).splitlines() if line.startswith("|")]

    def levels(page: Path) -> list[str]:
        return re.findall(r"^#+(?= )", prose(page), re.MULTILINE)

    assert commands(english) == commands(chinese)
    assert levels(english) == levels(chinese)
    assert shape(english) == shape(chinese)
    assert f"]({english.name})" in read(chinese) and f"]({chinese.name})" in read(english)


def test_the_configuration_reference_is_the_generated_table() -> None:
    table = markdown()
    assert table in read("docs/configuration.md"), "run: xuanyuan config --markdown"


def test_the_chinese_reference_has_the_same_settings_and_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", read("docs/configuration.zh-CN.md"), re.MULTILINE)
    english = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", markdown(), re.MULTILINE)
    assert [row[:2] for row in rows if row[0] in FIELDS] == [row[:2] for row in english]
    choices = {name: item.metadata["choices"] for name, item in FIELDS.items() if item.metadata["choices"]}
    meanings = {name: meaning for name, _, meaning in rows}
    assert [name for name, words in choices.items() if not all(word in meanings[name] for word in words)] == []
    assert [name for name, meaning in meanings.items() if not re.search(r"[\u4e00-\u9fff]", meaning)] == []


def test_the_picture_of_the_ids_is_what_the_page_shows() -> None:
    """`python -m tests.docs.ids_picture` draws it anew."""
    drawn = draw(read("docs/prompt-format.md"))
    assert drawn.count("<rect") > 50
    assert read(PICTURE) == drawn
