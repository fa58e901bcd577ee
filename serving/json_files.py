"""Read the small files of a checkpoint folder, with errors that say which file and what is wrong with it."""

import json
from pathlib import Path
from typing import Any, NoReturn

from serving.errors import CheckpointError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# The largest file of this kind in the family is Llama 3's tokenizer.json, 9 MB.
JSON_LIMIT = 100_000_000


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError when it cannot be read or holds something else."""
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise CheckpointError(
                f"{path}: {path.stat().st_size:,} bytes; expected a JSON file of at most {JSON_LIMIT:,}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    refuse_lfs_pointer(path, data)
    return parse_object(data, str(path))


def read_optional_json(path: Path) -> dict[str, Any]:
    """As `read_json`, and {} where there is no such file."""
    return read_json(path) if path.exists() else {}


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises CheckpointError beginning with `where`."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        # RecursionError: brackets nested thousands deep, which only a hostile file has.
        raise CheckpointError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: holds a JSON {type(value).__name__}; expected an object")
    return value


def refuse_lfs_pointer(path: Path, head: bytes) -> None:
    """Raise CheckpointError when a file begins as git-lfs's stand-in for a large file does."""
    if head.startswith(LFS_POINTER):
        raise CheckpointError(
            f"{path}: is a git-lfs pointer, not the file itself; fetch it with `git lfs pull` in that folder"
        )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
