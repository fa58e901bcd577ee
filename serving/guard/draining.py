"""Layer: no new inference request while the server drains; the others are counted, so that one can wait for them."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.refusal import Refusal
from serving.guard.routes import Access


class Draining:
    """Refuses inference while the server drains, and counts what is in flight."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.drain = context.drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if Exchange.of(scope).route.access is not Access.INFERENCE:  # health and metrics are watched to the end
            await self.app(scope, receive, send)
            return
        if self.drain.begun:
            message = "This server is shutting down. Ask again: another one answers."
            raise Refusal(503, "draining", message, headers={"retry-after": "1", "connection": "close"})

        async def close(message: Message) -> None:
            # A kept connection would bring the next request here, past any load balancer.
            if message["type"] == "http.response.start" and self.drain.announced:
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        self.drain.enter()
        try:
            await self.app(scope, receive, close)
        finally:
            self.drain.leave()
