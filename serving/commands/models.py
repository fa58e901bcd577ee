"""The checkpoints known by name: form, prompt, context, hub id, and whether they are in a hub's cache here."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.catalog import CatalogEntry, load_catalog
from serving.hub import find_cached, hub_id
from serving.hubs import HUBS

HEADINGS = ("NAME", "FORM", "PROMPT", "CONTEXT", "HUB ID", "HERE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--json and --catalog."""
    parser.add_argument("--json", action="store_true", help="a list of all that the catalog says, with cached folders")
    parser.add_argument("--catalog", type=Path, metavar="FILE", help="a TOML file that adds rows to the catalog")


def run(args: argparse.Namespace) -> int:
    """Print the catalog."""
    entries = load_catalog(args.catalog).entries
    if args.json:
        print(json.dumps([as_json(entry) for entry in entries], ensure_ascii=False))
        return 0
    print(table([HEADINGS, *(as_row(entry) for entry in entries)]))
    return 0


def cached(entry: CatalogEntry) -> dict[str, Path]:
    """The folders of a model by hub, for the hubs whose cache has its weights complete."""
    found = {}
    for hub in HUBS:
        model_id, revision = hub_id(entry, hub)
        if model_id and (folder := find_cached(model_id, hub, revision, allow_pickle=True)):
            found[hub] = folder
    return found


def as_json(entry: CatalogEntry) -> dict[str, Any]:
    """A row as JSON: its fields, `form`, and `cached`: folders by hub."""
    folders = {hub: str(folder) for hub, folder in cached(entry).items()}
    return {**asdict(entry), "form": entry.form, "cached": folders}


def as_row(entry: CatalogEntry) -> tuple[str, ...]:
    """A row of the table."""
    context = f"{entry.context:,}" if entry.context else "config"
    ids = dict.fromkeys(filter(None, (entry.huggingface, entry.modelscope)))
    return (entry.name, entry.form, entry.template, context, " ".join(ids) or "-", " ".join(cached(entry)) or "-")


def table(rows: list[tuple[str, ...]]) -> str:
    """The rows in columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
