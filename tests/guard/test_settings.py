"""The guard's settings: each stated once, read from the environment, checked when it is built."""

import dataclasses
import re
from pathlib import Path

import pytest

from serving.errors import ConfigError
from serving.guard import Guard
from serving.guard.settings import GuardSettings, environ_name
from tests.guard.stub import Engine

DOCS = Path(__file__).parents[2] / "docs" / "guard.md"


def test_what_is_unset_keeps_its_default() -> None:
    assert GuardSettings.from_environ({"PATH": "/bin", "XUANYUAN_MODEL": "x"}) == GuardSettings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_n", "3", 3),
        ("request_timeout", "1.5", 1.5),
        ("allow_anonymous", "YES", True),
        ("allow_anonymous", "0", False),
        ("keys_file", "/k", "/k"),
        ("keys_file", "", None),
        ("log_format", "json", "json"),
        ("allowed_origins", "", ""),
        ("max_queue_seconds", "0", 0.0),
    ],
)
def test_values_from_the_environment(name: str, text: str, value: object) -> None:
    found = getattr(GuardSettings.from_environ({environ_name(name): text}), name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("max_n", "three", "expected a whole number"),
        ("max_n", "1.5", "expected a whole number"),
        ("max_n", "0", "1 or more"),
        ("allow_anonymous", "maybe", "expected yes or no"),
        ("log_format", "xml", "expected one of console, json, none"),
        ("request_timeout", "soon", "expected a number"),
        ("request_timeout", "-1", "0 or more"),
        ("max_n", "", "a whole number"),
        ("request_timeout", "nan", "0 or more"),
        ("request_timeout", "inf", "0 or more"),
        ("body_timeout", "0", "0.001 or more"),
        ("rate_limit_failure", "ajar", "expected one of open, closed"),
    ],
)
def test_values_that_are_none(name: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)) as raised:
        GuardSettings.from_environ({environ_name(name): text})
    assert name in str(raised.value).lower()


def test_the_guard_takes_no_argument_but_the_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XUANYUAN_MAX_N", "7")
    assert Guard(Engine()).context.settings.max_n == 7
    monkeypatch.setenv("XUANYUAN_KEYS_FILE", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="missing"):
        Guard(Engine())


def test_the_documentation_lists_every_setting() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.*)` \| (.*) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [
        (item.name, "unset" if item.default in (None, "") else str(item.default), item.metadata["help"])
        for item in dataclasses.fields(GuardSettings)
    ]
