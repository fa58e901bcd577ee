"""A model is found as a folder or by name; a name that leads nowhere is refused before any hub is asked."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from serving import hub as hub_module
from serving.catalog import load_catalog
from serving.errors import CheckpointError
from serving.hub import locate
from serving.hubs import HUBS
from tests.tiny_checkpoint import make_tiny

CATALOG = load_catalog()
pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any question to a hub fails the test."""
    monkeypatch.setattr(hub_module, "HUBS", {name: SimpleNamespace(title=hub.title) for name, hub in HUBS.items()})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("XuanYuan-6B-Caht", ['"XuanYuan-6B-Chat"', "xuanyuan models"]),
        ("xuanyuan6b", ["not in the catalog", "XuanYuan-6B"]),
        ("gpt2", ["not in the catalog", "owner/name"]),
        ("", ["not in the catalog"]),
        ("a/b/c", ["not in the catalog"]),
        ("./nowhere", ["./nowhere", "no such folder"]),
        ("/nowhere/at/all", ["/nowhere/at/all", "no such folder"]),
        ("~nobody-of-this-name/model", ["no such folder"]),
        ("models\\XuanYuan-6B", ["no such folder"]),
    ],
)
def test_a_name_that_leads_nowhere(model: str, words: list[str]) -> None:
    with pytest.raises(CheckpointError) as refusal:
        locate(model, CATALOG)
    assert [word for word in words if word not in str(refusal.value)] == []
    assert refusal.value.exit_code == 2


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "my-model")
    assert locate(str(folder), CATALOG) == (folder, None)


@pytest.mark.parametrize(
    "parts", [("XuanYuan-13B-Chat",), ("models--Duxiaoman-DI--XuanYuan-13B-Chat", "snapshots", "0a1b")]
)
def test_a_folder_is_known_by_its_name(tmp_path: Path, parts: tuple[str, ...]) -> None:
    folder = tmp_path.joinpath(*parts)
    folder.mkdir(parents=True)
    found, entry = locate(str(folder), CATALOG)
    assert found == folder and entry and entry.name == "XuanYuan-13B-Chat"


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny(tmp_path / "XuanYuan-6B")
    monkeypatch.chdir(tmp_path)
    assert locate("./XuanYuan-6B/", CATALOG)[0] == folder
    monkeypatch.chdir(folder)
    found, entry = locate(".", CATALOG)
    assert found == folder and entry and entry.name == "XuanYuan-6B"


def test_a_link_keeps_its_name(tmp_path: Path) -> None:
    make_tiny(tmp_path / "blob")
    (tmp_path / "XuanYuan-6B").symlink_to(tmp_path / "blob")
    found, entry = locate(str(tmp_path / "XuanYuan-6B"), CATALOG)
    assert found.name == "XuanYuan-6B" and entry is not None


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny(tmp_path / "models" / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/models/mine", CATALOG)[0] == folder


def test_a_misspelt_folder_gets_its_neighbours_name(tmp_path: Path) -> None:
    make_tiny(tmp_path / "my-model")
    with pytest.raises(CheckpointError, match=r'no such folder \(did you mean "my-model"\?\)'):
        locate(str(tmp_path / "my-modle"), CATALOG)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = make_tiny(tmp_path / "my-model") / "model.safetensors"
    with pytest.raises(CheckpointError, match="is a file; give the folder"):
        locate(str(file), CATALOG)


def test_a_row_without_an_id_on_the_hub(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[mine]\ntemplate = "6b"\nchat = true\nhuggingface = "bank/mine"\n', encoding="utf-8")
    with pytest.raises(CheckpointError, match="no id for it on ModelScope; give its folder"):
        locate("mine", load_catalog(mine), hub="modelscope")
