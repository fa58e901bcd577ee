"""The settings as command-line flags: one for each field, its help from the field."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from serving.config import FIELDS, kind_of


def add_setting_flags(parser: argparse.ArgumentParser, *, skip: tuple[str, ...] = ("model",)) -> None:
    """Add `--max-model-len` for `max_model_len` and so on, and `--config FILE`. A flag not given sets nothing."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    for name, item in FIELDS.items():
        if name not in skip:
            add_flag(parser, item)


def add_flag(parser: argparse.ArgumentParser, item: "dataclasses.Field[Any]") -> None:
    """One field as a flag."""
    flag = "--" + item.name.replace("_", "-")
    text = help_text(item)
    kind = kind_of(item)
    if kind is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        return
    choices = item.metadata["choices"] or None
    metavar = None if choices else {int: "N", float: "X", str: "TEXT"}[kind]
    parser.add_argument(flag, type=kind, choices=choices, default=argparse.SUPPRESS, metavar=metavar, help=text)


def help_text(item: "dataclasses.Field[Any]") -> str:
    """The field's help with its default."""
    default = "" if item.default is None else f" (default: {item.default})"
    text: str = item.metadata["help"]
    return (text + default).replace("%", "%%")


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags set."""
    return {name: value for name, value in vars(args).items() if name in FIELDS and value is not None}
