"""Layer: counts each answer once it is over."""

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard import metrics
from serving.guard.context import Context
from serving.guard.exchange import Exchange


class Measuring:
    """Puts what became of a request into the metrics."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.clock = context.clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            if not exchange.quiet:
                self.count(exchange)

    def count(self, exchange: Exchange) -> None:
        """Count one finished exchange."""
        route = exchange.route.path
        metrics.REQUESTS.labels(route, exchange.key_name, exchange.outcome).inc()
        metrics.TOTAL.labels(route).observe(self.clock() - exchange.started_at)
        if exchange.reason:
            metrics.REJECTIONS.labels(exchange.reason).inc()
        if exchange.watched is None:
            return
        metrics.TOKENS.labels(exchange.key_name, "prompt").inc(exchange.usage.prompt)
        metrics.TOKENS.labels(exchange.key_name, "completion").inc(exchange.usage.completion)
        if exchange.streaming and exchange.first_token_at is not None:
            metrics.FIRST_TOKEN.labels(route).observe(exchange.first_token_at - exchange.started_at)
