"""Sends a whole answer of the guard's own."""

from collections.abc import Sequence

from starlette.types import Scope, Send

from serving.guard.exchange import Header


async def send_answer(scope: Scope, send: Send, status: int, headers: Sequence[Header], body: bytes) -> None:
    """Head and body; to a HEAD request the head that a GET would have got."""
    length = [] if status == 304 else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
