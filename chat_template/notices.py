"""Response headers that the renderer asks for: it knows what the client should hear, but not the response."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

DROPPED_PAIRS = "x-xuanyuan-dropped-turn-pairs"
"""How many of the oldest question-and-answer pairs were left out so that the conversation fits the context."""

_headers: ContextVar[list[tuple[bytes, bytes]] | None] = ContextVar("xuanyuan_notices", default=None)


def notify(name: str, value: str) -> None:
    """Add a header to the response of the request being served. Does nothing where NoticeHeaders is not installed."""
    headers = _headers.get()
    if headers is not None:
        headers.append((name.encode("latin-1"), value.encode("latin-1")))


class NoticeHeaders:
    """ASGI middleware that puts the notices into the response's head. The body is passed on untouched."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # A list, because tasks that are started for the request have a copy of the context, but the same list in it.
        headers: list[tuple[bytes, bytes]] = []
        token = _headers.set(headers)

        async def send_with_notices(message: Message) -> None:
            if message["type"] == "http.response.start" and headers:
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_notices)
        finally:
            _headers.reset(token)
