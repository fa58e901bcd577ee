"""The family's catalog is complete and true to the sources; a user's file is checked to the last key."""

from pathlib import Path

import pytest

from serving.catalog import CatalogEntry, load_catalog
from serving.errors import ConfigError

# reference/family.md and the table of models in the family's README.
SIZES = ("XuanYuan-6B", "XuanYuan-13B", "XuanYuan-70B", "XuanYuan2-70B")
FAMILY = [f"{size}{form}" for size in SIZES for form in ("", "-Chat", "-Chat-8bit", "-Chat-4bit")]
FAMILY += ["Llama3-XuanYuan3-70B", "Llama3-XuanYuan3-70B-Chat", "XuanYuan-FinX1-Preview"]


def row(name: str) -> CatalogEntry:
    entry = load_catalog().get(name)
    assert entry is not None
    return entry


def test_every_checkpoint_of_the_family_is_there() -> None:
    assert [entry.name for entry in load_catalog().entries] == FAMILY


@pytest.mark.parametrize("name", FAMILY)
def test_each_row_has_its_ids_and_form(name: str) -> None:
    entry = row(name)
    assert entry.huggingface == entry.modelscope == f"Duxiaoman-DI/{name}"
    assert entry.quantization == {"8bit": "bitsandbytes", "4bit": "gptq"}.get(name.rpartition("-")[2])
    assert entry.chat == ("Chat" in name or "FinX1" in name)
    if not entry.chat:
        chat = row(entry.chat_checkpoint or "")
        assert chat.chat and chat.shape == entry.shape and chat.quantization is None


@pytest.mark.parametrize(
    ("size", "template", "context"),
    [
        ("XuanYuan-6B", "6b", 2048),
        ("XuanYuan-13B", "13b", None),
        ("XuanYuan-70B", "70b", None),
        ("XuanYuan2-70B", "70b", 16384),
    ],
)
def test_each_size_has_its_prompt_and_context(size: str, template: str, context: int | None) -> None:
    forms = [row(f"{size}{form}") for form in ("-Chat", "-Chat-8bit", "-Chat-4bit")]
    assert {(entry.template, entry.context, entry.stop) for entry in forms} == {(template, context, ("</s>",))}
    assert (row(size).template, row(size).context) == ("none", context)
    for entry in forms:
        assert dict(entry.sampling) | {"temperature": 0.7, "top_p": 0.95, "max_tokens": 256} == dict(entry.sampling)


def test_the_6b_rows_are_complete() -> None:
    for form in ("", "-Chat", "-Chat-8bit", "-Chat-4bit"):
        assert row(f"XuanYuan-6B{form}").shape == {
            "hidden_size": 4096,
            "num_hidden_layers": 30,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "intermediate_size": 11008,
            "vocab_size": 39438,
        }


def test_sizes_differ_in_shape() -> None:
    assert len({str(row(size).shape) for size in ("XuanYuan-6B", "XuanYuan-13B", "XuanYuan-70B")}) == 3


@pytest.mark.parametrize(
    "name", ["XuanYuan-6B-Chat", "xuanyuan-6b-chat", "Duxiaoman-DI/XuanYuan-6B-Chat", "DUXIAOMAN-DI/xuanyuan-6b-CHAT"]
)
def test_a_row_is_found_in_any_case_and_by_hub_id(name: str) -> None:
    assert row(name).name == "XuanYuan-6B-Chat"


def test_an_unknown_name_gets_near_ones() -> None:
    assert load_catalog().get("XuanYuan-6B-Chat-5bit") is None
    assert '"XuanYuan-6B-Chat-4bit"' in load_catalog().near("XuanYuan-6B-Chat-5bit")
    assert load_catalog().near("gpt2") == ""


def test_a_users_file_adds_and_replaces_rows(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[my-bank]\nhuggingface = "bank/XY-tuned"\ntemplate = "6b"\nchat = true\nshape = { hidden_size = 4096 }\n'
        'stop = ["</s>"]\n[xuanyuan-6b]\ntemplate = "6b"\nchat = true\n',
        encoding="utf-8",
    )
    catalog = load_catalog(mine)
    assert len(catalog.entries) == len(FAMILY) + 1
    mine_row = catalog.get("xy-TUNED")
    assert mine_row is not None
    assert (mine_row.name, mine_row.shape, mine_row.modelscope) == ("my-bank", {"hidden_size": 4096}, "")
    replaced = catalog.get("XuanYuan-6B")
    assert replaced is not None and replaced.template == "6b" and replaced.huggingface == ""


GOOD = 'template = "6b"\nchat = true\n'
# Each: the file's text, and what the message must name: row, key, value, and what was expected.
REFUSALS = {
    "not TOML": ("[row", ["not TOML"]),
    "a value at the top": ("row = 3", ['"row"', "3", "expected a table"]),
    "unknown key": (f"[row]\n{GOOD}tempature = 0.7", ['"row"', "tempature", "0.7", "known are"]),
    "near key": (f'[row]\n{GOOD}hugginface = "a/b"', ['did you mean "huggingface"']),
    "missing template": ("[row]\nchat = true", ['"row"', "template is missing", "13b"]),
    "missing chat": ('[row]\ntemplate = "6b"', ['"row"', "chat is missing", "true or false"]),
    "unknown template": ('[row]\ntemplate = "7b"\nchat = true', ["template = '7b'", "6b, 13b, 70b, own, none"]),
    "chat of the wrong type": ('[row]\ntemplate = "6b"\nchat = "yes"', ["chat = 'yes'", "true or false"]),
    "chat without a template": ('[row]\ntemplate = "none"\nchat = true', ["chat = true", '"none"']),
    "unknown quantization": (f'[row]\n{GOOD}quantization = "awq"', ["quantization = 'awq'", "bitsandbytes, gptq"]),
    "context as text": (f'[row]\n{GOOD}context = "2k"', ["context = '2k'", "number of tokens"]),
    "context true": (f"[row]\n{GOOD}context = true", ["context = True", "number of tokens"]),
    "unknown shape key": (f"[row]\n{GOOD}shape = {{ layers = 30 }}", ["shape", "layers", "num_hidden_layers"]),
    "shape of texts": (f'[row]\n{GOOD}shape = {{ vocab_size = "39438" }}', ["shape", "'39438'", "whole numbers"]),
    "unknown sampling key": (f"[row]\n{GOOD}sampling = {{ temp = 1 }}", ["sampling", "temp", "temperature"]),
    "stop as text": (f'[row]\n{GOOD}stop = "</s>"', ["stop = '</s>'", "a list of texts"]),
    "hub id without owner": (f'[row]\n{GOOD}modelscope = "XuanYuan"', ["modelscope = 'XuanYuan'", "owner/name"]),
    "notes of the wrong type": (f"[row]\n{GOOD}notes = 3", ["notes = 3", "a text"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(tmp_path: Path, name: str) -> None:
    text, words = REFUSALS[name]
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        load_catalog(file)
    assert [word for word in [str(file), *words] if word not in str(refusal.value)] == []
    assert refusal.value.exit_code == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load_catalog(tmp_path / "nowhere.toml")
