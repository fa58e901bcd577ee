"""API keys: how they are made, hashed and kept in a file. Only the hash of a key is ever stored.

The file is JSON: {"version": 1, "keys": [{"name", "hash", "scopes", "created", "expires", limits…}, …]}. A key has 256
random bits, so one round of SHA-256 is enough: there is nothing to guess that a slow hash would protect.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.errors import ConfigError, near

VERSION = 1
SCOPES = ("inference", "metrics", "admin")
LIMITS = ("requests_per_minute", "tokens_per_minute", "max_concurrent_requests")
PREFIX = "xy-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """One key as it is stored. `created` and `expires` are ISO 8601 times with zone; a limit of None: the server's."""

    name: str
    hash: str
    scopes: tuple[str, ...] = ("inference",)
    created: str = ""
    expires: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and NAME.fullmatch(self.name)):
            raise ConfigError(f"key name {self.name!r}: expected up to 64 letters, digits, '.', '_' or '-'")
        if not (isinstance(self.hash, str) and DIGEST.fullmatch(self.hash)):
            raise ConfigError(f"key {self.name}: its hash is not 64 hexadecimal digits")
        for scope in self.scopes:
            if scope not in SCOPES:
                hint = near(str(scope), list(SCOPES))
                raise ConfigError(f"key {self.name}: scope {scope!r}: expected {', '.join(SCOPES)}{hint}")
        for limit in LIMITS:
            value = getattr(self, limit)
            if value is not None and (type(value) is not int or value < 0):
                raise ConfigError(f"key {self.name}: {limit}={value!r}: expected a whole number of 0 or more")
        if not isinstance(self.created, str):
            raise ConfigError(f"key {self.name}: created={self.created!r}: expected a text")
        if self.expires is not None:
            moment(self.name, self.expires)

    @property
    def expires_at(self) -> float:
        """The time of expiry in seconds since 1970; infinity for a key that does not expire."""
        return float("inf") if self.expires is None else moment(self.name, self.expires).timestamp()


def moment(name: str, text: str) -> datetime:
    """The time that an ISO 8601 text with a zone names. Raises ConfigError."""
    try:
        time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        time = None
    if time is None or time.tzinfo is None:
        raise ConfigError(f"key {name}: expires={text!r}: expected a time such as 2026-12-31T23:59:59+00:00")
    return time


def new_secret() -> str:
    """A new key, for its owner alone: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is stored of a key: SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def parse_keys(text: str) -> tuple[Key, ...]:
    """The keys of a file's text. Raises ConfigError on anything that is not exactly such a file."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError("not JSON") from None
    if not isinstance(document, dict) or document.get("version") != VERSION or set(document) != {"version", "keys"}:
        raise ConfigError(f'expected {{"version": {VERSION}, "keys": […]}}')
    if not isinstance(document["keys"], list):
        raise ConfigError('"keys": expected a list')
    keys = tuple(parse_key(entry) for entry in document["keys"])
    for what in ("name", "hash"):
        seen = [getattr(key, what) for key in keys]
        if len(set(seen)) < len(seen):
            raise ConfigError(f"two keys have the same {what}")
    return keys


def parse_key(entry: Any) -> Key:
    """One key of the file. Raises ConfigError."""
    if not isinstance(entry, dict) or not {"name", "hash"} <= set(entry):
        raise ConfigError("a key: expected an object with at least name and hash")
    known = [field.name for field in fields(Key)]
    for name in entry:
        if name not in known:
            raise ConfigError(f"key {entry['name']!r}: unknown field {name!r}{near(name, known)}")
    scopes = entry.get("scopes", ["inference"])
    if not isinstance(scopes, list):
        raise ConfigError(f"key {entry['name']!r}: scopes={scopes!r}: expected a list")
    return Key(**{**entry, "scopes": tuple(scopes)})


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys in a file. Raises ConfigError that names the file and what is wrong with it."""
    try:
        return parse_keys(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"keys file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"keys file {path}: not UTF-8") from None
    except ConfigError as error:
        raise ConfigError(f"keys file {path}: {error}") from None


def write_keys(path: Path, keys: Iterable[Key]) -> None:
    """Replace the file at once, so that a reader sees the old one or the new one. A new file is its owner's alone."""
    entries = [{name: value for name, value in asdict(key).items() if value is not None} for key in keys]
    text = json.dumps({"version": VERSION, "keys": entries}, indent=2) + "\n"
    path = path.resolve()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other editors of the file out. The lock is on its folder: the file itself is replaced at each change."""
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def edit(path: Path, change: Callable[[list[Key]], None]) -> None:
    """Apply `change` to the file's list of keys; a missing file is an empty one. Raises ConfigError."""
    try:
        with locked(path):
            keys = list(read_keys(path)) if path.exists() else []
            change(keys)
            write_keys(path, keys)
    except OSError as error:
        raise ConfigError(f"keys file {path}: {error.strerror}") from None


def add(path: Path, key: Key) -> str:
    """Add a key under a name that is not taken yet (its hash is set here) and return the secret."""
    secret = new_secret()

    def change(keys: list[Key]) -> None:
        if any(known.name == key.name for known in keys):
            raise ConfigError(f"key {key.name} exists: revoke or rotate it, or choose another name")
        keys.append(replace(key, hash=digest(secret), created=now()))

    edit(path, change)
    return secret


def rotate(path: Path, name: str) -> str:
    """Give a key a new secret and return it. The old one stops working; scopes, limits and expiry stay."""
    secret = new_secret()

    def change(keys: list[Key]) -> None:
        index = position(keys, name)
        keys[index] = replace(keys[index], hash=digest(secret), created=now())

    edit(path, change)
    return secret


def revoke(path: Path, name: str) -> None:
    """Remove a key."""
    edit(path, lambda keys: keys.__delitem__(position(keys, name)))


def position(keys: list[Key], name: str) -> int:
    """Where the key of that name is. Raises ConfigError with the nearest name."""
    names = [key.name for key in keys]
    if name not in names:
        raise ConfigError(f"no key {name!r}{near(name, names)}")
    return names.index(name)


def now() -> str:
    """The time, as the file keeps it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
