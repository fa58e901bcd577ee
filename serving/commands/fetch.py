"""Fetch a checkpoint and check it: what `xuanyuan serve` does before it looks at the hardware. Prints the folder.

What is in the hub's cache already is not asked for again. Every file's header is read, so that a truncated download or
the wrong checkpoint is known now. It needs no GPU: it is for the init container of a pod, or to fill a shared disk.
"""

import argparse
import os
from pathlib import Path

from serving.catalog import load_catalog
from serving.checkpoint import read_checkpoint
from serving.config import FIELDS, load_config
from serving.errors import ConfigError
from serving.flags import add_flag, given
from serving.hardware import detect
from serving.hub import locate
from serving.log import log
from serving.units import format_bytes

SETTINGS = ("catalog", "hub", "revision", "allow_pickle", "template", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL, and the settings that decide what is fetched and what is right."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as for serve (default: the setting `model`)")
    for name in SETTINGS:
        add_flag(parser, FIELDS[name])


def run(args: argparse.Namespace) -> int:
    """Fetch and check. Exit codes: 0; 2 when it cannot be had or is not what it should be."""
    config = load_config(given(args), os.environ).config
    if not config.model:
        raise ConfigError("which model? Give MODEL or set XUANYUAN_MODEL")
    catalog = load_catalog(Path(config.catalog) if config.catalog else None)
    path, entry = locate(
        config.model, catalog, hub=config.hub, revision=config.revision, allow_pickle=config.allow_pickle
    )
    checkpoint = read_checkpoint(
        path,
        entry=entry,
        name=entry.name if entry else None,
        template=config.template,
        device=detect(config.device).device if config.device == "auto" else config.device,
        allow_pickle=config.allow_pickle,
    )
    log(f"{checkpoint.name}: {format_bytes(checkpoint.weight_bytes)} of weights, whole")
    print(path)
    return 0
