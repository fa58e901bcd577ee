"""`xuanyuan keys`: add, list, revoke and rotate the API keys of a server. A running server sees the change in 2 s."""

import argparse
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from serving.errors import ConfigError
from serving.keys import LIMITS, SCOPES, Key, add, digest, read_keys, revoke, rotate
from serving.log import log

FILE_VARIABLE = "XUANYUAN_KEYS_FILE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    adding = actions.add_parser("add", help="make a key and show it once, alone on the last line of standard output")
    adding.add_argument(
        "--scope", action="append", choices=SCOPES, help="what it may do, repeatable (default: inference)"
    )
    for limit in LIMITS:
        adding.add_argument(f"--{limit.replace('_', '-')}", type=int, metavar="N", help="default: the server's")
    adding.add_argument("--expires-days", type=int, metavar="N", help="default: it does not expire")
    listing = actions.add_parser("list", help="names, scopes, limits and expiry; never the keys")
    revoking = actions.add_parser("revoke", help="remove a key")
    rotating = actions.add_parser("rotate", help="replace a key by a new one of the same name, shown like a new one")
    for action in (adding, revoking, rotating):
        action.add_argument("name", metavar="NAME", help="who or what the key is for; appears in logs and metrics")
    for action in (adding, listing, revoking, rotating):
        action.add_argument("--keys-file", type=Path, metavar="FILE", help=f"default: ${FILE_VARIABLE}")


def run(args: argparse.Namespace) -> int:
    """Do one action on the keys file. Exit code 0. Raises ConfigError."""
    path = args.keys_file or Path(os.environ.get(FILE_VARIABLE) or "")
    if path == Path():
        raise ConfigError(f"which keys file? Give --keys-file FILE or set {FILE_VARIABLE}")
    if args.action == "add":
        show(args.name, add(path, key_of(args)))
    elif args.action == "rotate":
        show(args.name, rotate(path, args.name))
    elif args.action == "revoke":
        revoke(path, args.name)
        log(f"Revoked {args.name}.")
    else:
        for key in read_keys(path):
            print(describe(key))
    return 0


def key_of(args: argparse.Namespace) -> Key:
    """The key that `add` describes. Its hash is that of nothing until it is stored. Raises ConfigError."""
    key = Key(args.name, digest(""), scopes=tuple(dict.fromkeys(args.scope or ["inference"])))
    days = args.expires_days
    if days is not None:
        if not 0 < days < 100_000:
            raise ConfigError(f"--expires-days={days}: expected 1 to 99999")
        key = replace(key, expires=(datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="seconds"))
    return replace(key, **{limit: getattr(args, limit) for limit in LIMITS})


def show(name: str, secret: str) -> None:
    """The key for its owner: alone on the last line, so that a script can take it."""
    log(f"The key of {name}. It is shown this once and cannot be read back:")
    print(secret)


def describe(key: Key) -> str:
    """One line: name, scopes, then what differs from the server's defaults."""
    limits = [f"{limit}={getattr(key, limit)}" for limit in LIMITS if getattr(key, limit) is not None]
    expired = key.expires_at <= datetime.now(UTC).timestamp()
    expires = f"{'EXPIRED' if expired else 'expires'} {key.expires}" if key.expires else "does not expire"
    return "  ".join([key.name, ",".join(key.scopes), f"created {key.created or 'unknown'}", expires, *limits])
