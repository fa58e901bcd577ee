"""Every setting with its value and where the value came from: flag, environment variable, file or default."""

import argparse
import json
import os

from serving.config import FIELDS, load_config
from serving.flags import add_setting_flags, given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every setting, so that the effect of flags can be seen."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as in `xuanyuan serve`")
    parser.add_argument("--json", action="store_true", help='{"NAME": {"value": …, "origin": …}}')
    parser.add_argument("--markdown", action="store_true", help="the reference table, as in the README")
    add_setting_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the settings."""
    if args.markdown:
        print(markdown())
        return 0
    sourced = load_config(given(args), os.environ, args.config)
    rows = {name: {"value": getattr(sourced.config, name), "origin": sourced.origins[name]} for name in FIELDS}
    if args.json:
        print(json.dumps(rows))
        return 0
    for name, row in rows.items():
        print(f"{name:24} {row['value'] if row['value'] is not None else '-'!s:28} {row['origin']}")
    return 0


def markdown() -> str:
    """The table of all settings: flag (environment and file names differ only in case and dashes), default, meaning."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, item in FIELDS.items():
        shown = str(item.default).lower() if isinstance(item.default, bool) else item.default
        default = "" if shown in (None, "") else f"`{shown}`"
        choices = f" ({', '.join(item.metadata['choices'])})" if item.metadata["choices"] else ""
        lines.append(f"| `{name}` | {default} | {item.metadata['help'].replace('|', chr(92) + '|')}{choices} |")
    return "\n".join(lines)
