"""The files of an offline batch, in OpenAI's format: a request a line in, an answer a line out, found by `custom_id`.

In:  {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {…}}
Out: {"id": …, "custom_id": "1", "response": {"status_code": 200, "request_id": …, "body": {…}}, "error": null}
"""

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import ConfigError

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


@dataclass(frozen=True)
class Item:
    """One request of a batch."""

    custom_id: str
    url: str
    body: dict[str, Any]


def read_batch(path: Path) -> list[Item]:
    """All requests. Raises ConfigError that names the first line that is no request."""
    items: dict[str, Item] = {}
    for number, line in lines(path):
        try:
            item = parse(json.loads(line))
            if item.custom_id in items:
                raise ValueError(f"custom_id {item.custom_id!r} stands in an earlier line too: expected one of its own")
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
        items[item.custom_id] = item
    if not items:
        raise ConfigError(f"{path}: it holds no request: expected one JSON object a line")
    return list(items.values())


def parse(row: Any) -> Item:
    """One line of the input. Raises ValueError that names the field, its value, and what was expected."""
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")
    custom_id, url, body = row.get("custom_id"), row.get("url"), row.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise ValueError(f"custom_id is {custom_id!r}: expected a text")
    if row.get("method", "POST") != "POST":
        raise ValueError(f"method is {row['method']!r}: expected 'POST'")
    if url not in URLS:
        raise ValueError(f"url is {url!r}: expected one of {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise ValueError(f"body is {type(body).__name__}: expected the request as an object")
    if body.get("stream"):
        raise ValueError("body.stream is set: expected a request without a stream")
    return Item(custom_id, url, body)


def answered(path: Path, items: list[Item]) -> set[str]:
    """The ids whose answers an earlier run left in the output.

    Failures, and a line that it did not finish, are taken out of the file: they are asked for again. Raises ConfigError
    for a file that is not this batch's output.
    """
    if not path.exists():
        return set()
    known, kept, found = {item.custom_id for item in items}, list[str](), set[str]()
    rows = list(lines(path))
    for number, line in rows:
        try:
            row = json.loads(line)
            custom_id, response = row["custom_id"], row["response"]
        except (ValueError, LookupError, TypeError):
            if number == rows[-1][0]:
                continue
            raise ConfigError(f"{path}, line {number}: no output of a batch; expected another file after -o") from None
        if custom_id not in known:
            raise ConfigError(
                f"{path}, line {number}: {custom_id!r} is not in the input; expected another file after -o"
            )
        if response and response.get("status_code") == 200:
            kept.append(line)
            found.add(custom_id)
    if len(kept) < len(rows):
        replace(path, kept)
    return found


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def replace(path: Path, kept: list[str]) -> None:
    """Put these lines into a file's place, all or nothing."""
    new = path.with_name(path.name + ".new")
    new.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(new, path)


def output_line(item: Item, *, status: int, request_id: str, body: Any) -> str:
    """One line of the output."""
    row = {
        "id": f"batch_req_{uuid.uuid4().hex}",
        "custom_id": item.custom_id,
        "response": {"status_code": status, "request_id": request_id, "body": body},
        "error": None,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"
