"""Layer: ends requests that take too long, in the engine too.

At its deadline a request behind this layer sees its client disconnect, which is how the engine's app learns that nobody
waits any more: it stops the work and returns. What has not returned a moment later is cancelled.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.refusal import Refusal

GRACE_SECONDS = 0.5
REQUEST, FIRST_TOKEN = "request_timeout", "first_token_timeout"


class Deadlines:
    """Sets a time limit on the whole answer, and on the first token of a stream."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        settings = context.settings
        self.limits = {REQUEST: settings.request_timeout, FIRST_TOKEN: settings.first_token_timeout}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        if not exchange.route.generates:
            await self.app(scope, receive, send)
            return
        deadline = Deadline(exchange, receive)
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(seconds, deadline.expire, code) for code, seconds in self.limits.items() if seconds]
        try:
            async with deadline.cancelling:
                await self.app(scope, deadline.receive, send)
        except Exception:  # whatever the end of the request brought about in the app; any other goes on
            if not deadline.expired:
                raise
        finally:
            for timer in timers:
                timer.cancel()
        if deadline.expired:
            limit = self.limits[deadline.expired]
            raise Refusal(504, deadline.expired, f"The answer took longer than {limit:g} s and was stopped.")


class Deadline:
    """The time limits of one request. `expired` names the one that was reached."""

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self.exchange = exchange
        self._receive = receive
        self.expired = ""
        self.cancelling = asyncio.timeout(None)
        self.receiving: list[asyncio.Timeout] = []

    def expire(self, code: str) -> None:
        """A limit is reached: stop the request, unless this limit was met in time."""
        exchange = self.exchange
        if self.expired or (code == FIRST_TOKEN and (not exchange.streaming or exchange.first_token_at is not None)):
            return
        self.expired = code
        exchange.closed = True
        activity = exchange.context.activity
        if activity.token_at < exchange.started_at:
            activity.stuck_at = exchange.context.clock()
        now = asyncio.get_running_loop().time()
        for waiting in self.receiving:
            waiting.reschedule(now)
        self.cancelling.reschedule(now + GRACE_SECONDS)

    async def receive(self) -> Message:
        """The client's next message, or that it is gone once the request has expired."""
        if self.expired:
            return {"type": "http.disconnect"}
        try:
            async with asyncio.timeout(None) as waiting:
                self.receiving.append(waiting)
                try:
                    return await self._receive()
                finally:
                    self.receiving.remove(waiting)
        except TimeoutError:
            return {"type": "http.disconnect"}
