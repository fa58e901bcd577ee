"""The catalog: what is known of each checkpoint of the family before a byte of it is on this machine.

`catalog.toml` holds the family's rows; a user's file of the same form adds fine-tunes or replaces rows.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from serving.errors import ConfigError, near

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILE = Path(__file__).with_name("catalog.toml")
TEMPLATES = ("6b", "13b", "70b", "own", "none")
QUANTIZATIONS = ("bitsandbytes", "gptq")
SHAPE_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
SAMPLING_KEYS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")


def _is_hub_id(value: object) -> bool:
    return isinstance(value, str) and HUB_ID.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_table(value: object, keys: tuple[str, ...], kinds: tuple[type, ...]) -> bool:
    return isinstance(value, dict) and all(key in keys and type(item) in kinds for key, item in value.items())


# What a value may be, and how an error says so. The keys that are not here are texts.
EXPECTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "huggingface": (_is_hub_id, "an id like owner/name"),
    "modelscope": (_is_hub_id, "an id like owner/name"),
    "template": (lambda value: value in TEMPLATES, f"one of {', '.join(TEMPLATES)}"),
    "chat": (lambda value: isinstance(value, bool), "true or false"),
    "quantization": (lambda value: value in QUANTIZATIONS, f"one of {', '.join(QUANTIZATIONS)}"),
    "pickled": (lambda value: isinstance(value, bool), "true or false"),
    "context": (_is_count, "a number of tokens above 0"),
    "shape": (lambda value: _is_table(value, SHAPE_KEYS, (int,)), f"whole numbers for some of {', '.join(SHAPE_KEYS)}"),
    "sampling": (
        lambda value: _is_table(value, SAMPLING_KEYS, (int, float)),
        f"numbers for some of {', '.join(SAMPLING_KEYS)}",
    ),
    "stop": (
        lambda value: isinstance(value, list) and all(isinstance(text, str) and text for text in value),
        "a list of texts that are not empty",
    ),
}


@dataclass(frozen=True)
class CatalogEntry:
    """One row; catalog.toml says what each key means. Hub ids are "" where the checkpoint is not on that hub."""

    name: str
    template: str
    chat: bool
    huggingface: str = ""
    modelscope: str = ""
    huggingface_revision: str | None = None
    quantization: str | None = None
    pickled: bool = False
    context: int | None = None
    shape: Mapping[str, int] = field(default_factory=dict)
    sampling: Mapping[str, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    chat_checkpoint: str | None = None
    notes: str = ""

    @property
    def form(self) -> str:
        """ "base", "chat", "chat, gptq", …: as the table of `xuanyuan models` shows it."""
        return ", ".join(filter(None, ("chat" if self.chat else "base", self.quantization)))


@dataclass(frozen=True)
class Catalog:
    """The rows, in the order of the files."""

    entries: tuple[CatalogEntry, ...]

    def get(self, name: str) -> CatalogEntry | None:
        """The row called `name`, in any case; a full hub id or its last part will do."""
        wanted = name.casefold()
        return next((entry for entry in self.entries if wanted in _names(entry)), None)

    def near(self, name: str) -> str:
        """A hint like ' (did you mean "XuanYuan-6B-Chat"?)' for a name that no row has, or ''."""
        return near(name.rpartition("/")[2], [entry.name for entry in self.entries])


def load_catalog(extra: Path | None = None) -> Catalog:
    """The family's rows and those of `extra`. Raises ConfigError naming file, row, key, value and what was expected."""
    rows = _read(FILE)
    if extra is not None:
        # Names are compared in any case everywhere, so a row replaces the one that differs only in case.
        folded = {name.casefold(): name for name in rows}
        for name, entry in _read(extra).items():
            rows[folded.get(name.casefold(), name)] = entry
    return Catalog(tuple(rows.values()))


def _names(entry: CatalogEntry) -> set[str]:
    ids = [hub_id for hub_id in (entry.huggingface, entry.modelscope) if hub_id]
    return {name.casefold() for name in (entry.name, *ids, *(hub_id.rpartition("/")[2] for hub_id in ids))}


def _read(file: Path) -> dict[str, CatalogEntry]:
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"catalog {file}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"catalog {file}: not TOML: {error}") from None
    return {name: _entry(file, name, table) for name, table in tables.items()}


def _entry(file: Path, name: str, table: object) -> CatalogEntry:
    """One row from its table, every value checked."""
    where = f'catalog {file}: row "{name}"'
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: is {table!r}; expected a table, [{name}]")
    known = {item.name: item for item in fields(CatalogEntry) if item.name != "name"}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(
                f"{where}: unknown key {key} = {value!r}{near(key, list(known))}; known are {', '.join(known)}"
            )
        _check(where, key, value)
    for key in ("template", "chat"):
        if key not in table:
            raise ConfigError(f"{where}: key {key} is missing; expected {EXPECTED[key][1]}")
    if table["chat"] != (table["template"] != "none"):
        raise ConfigError(
            f'{where}: chat = {str(table["chat"]).lower()}, template = "{table["template"]}": '
            'expected chat = false exactly when template is "none"'
        )
    return CatalogEntry(name=name, **table | {"stop": tuple(table.get("stop", ()))})


def _check(where: str, key: str, value: object) -> None:
    fits, expected = EXPECTED.get(key, (lambda text: isinstance(text, str), "a text"))
    if not fits(value):
        raise ConfigError(f"{where}: {key} = {value!r}: expected {expected}")
