"""Asks the app behind the guard something of the guard's own, in process."""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message, Scope

HEADERS = [(b"host", b"guard"), (b"content-type", b"application/json"), (b"x-request-id", b"ready-probe")]


async def ask(
    app: ASGIApp, scope: Scope, method: str, path: str, document: dict[str, Any] | None = None
) -> tuple[int, bytes]:
    """The status and body of an answer. `scope` is that of any request to the same app: it says where the app is."""
    messages: list[Message] = [{"type": "http.request", "body": json.dumps(document).encode() if document else b""}]
    status, body = 0, b""

    async def receive() -> Message:
        if not messages:
            await asyncio.get_running_loop().create_future()  # this client stays until it has its answer
        return messages.pop()

    async def send(message: Message) -> None:
        nonlocal status, body
        status = message.get("status", status)
        body += message.get("body", b"")

    own = {"method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": list(HEADERS)}
    await app({**scope, **own}, receive, send)
    return status, body
