"""Layer: a request that would wait too long is told so at once, and when to come back.

So those that are let in start within `max_queue_seconds`, and under any overload the engine works on requests whose
clients are still there. How many may wait follows from how fast the engine was lately; see line.py.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard import metrics
from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.line import Line, Place
from serving.guard.refusal import Refusal, retry_after
from serving.guard.settings import GuardSettings

# Prompt tokens for each byte of a body, until the engine's counts show better, and how fast those are believed.
TOKENS_PER_BYTE = 0.3
LEARNING = 0.1


class Admission:
    """Bounds the line before the engine."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.context = context
        self.settings = context.settings
        self.line = context.line
        self.tokens_per_byte = TOKENS_PER_BYTE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        if not exchange.route.generates:
            await self.app(scope, receive, send)
            return
        place = Place(exchange.sequences, int(exchange.body_bytes * self.tokens_per_byte))
        if self.line:
            self.admit(self.line, place)
        self.context.activity.running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.context.activity.running -= 1
            if self.line:
                self.line.leave(place, self.context.clock(), done=exchange.complete and exchange.status == 200)
                metrics.QUEUED.set(self.line.queued)
            self.learn(exchange)

    def admit(self, line: Line, place: Place) -> None:
        """Let a request join the line, or raise Refusal."""
        check(line, place, self.settings)
        line.join(place, self.context.clock())
        metrics.QUEUED.set(line.queued)

    def learn(self, exchange: Exchange) -> None:
        """Compare a body's size with the tokens that the engine has counted in it."""
        if exchange.usage.prompt and exchange.body_bytes:
            seen = exchange.usage.prompt / exchange.body_bytes
            self.tokens_per_byte += LEARNING * (seen - self.tokens_per_byte)


def check(line: Line, place: Place, settings: GuardSettings) -> None:
    """Raise Refusal if a request would make the line too long."""
    if not line.full:
        return
    sequences, tokens = line.waiting()
    sequences, tokens = sequences + place.sequences, tokens + place.tokens
    delay = line.delay(sequences, tokens)
    too_many = sequences > settings.max_queued_requests or tokens > settings.max_queued_tokens
    if too_many or delay > settings.max_queue_seconds:
        message = f"The server is busy: this request would wait {delay:.0f} s or longer. Ask again later."
        raise Refusal(503, "overloaded", message, headers=retry_after(delay - settings.max_queue_seconds))
