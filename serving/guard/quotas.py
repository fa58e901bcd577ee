"""Layer: how much each key may ask: requests a minute, tokens a minute, requests at a time.

Rates are counted by the `limits` library, in this process or in Redis, over windows of a minute that begin with a
key's first request. Tokens are charged when the engine has counted them, so requests in flight may overshoot: what they
use is charged in full, and the key waits for the next window. Requests at a time are counted in this process.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import ConfigError
from serving.guard import metrics
from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.refusal import Refusal, retry_after
from serving.guard.settings import GuardSettings
from serving.keys import Key
from serving.log import log

WINDOW = 60  # seconds
STORAGE_TIMEOUT = 0.5  # seconds; a request never waits longer for Redis
STORAGE_PAUSE = 5.0  # seconds in which a Redis that did not answer is not asked again


class Quotas:
    """Refuses what is over a key's limits with 429, and tells every answer how much is left."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.settings = context.settings
        self.clock, self.wall = context.clock, context.wall
        self.storage = storage(context.settings)
        self.running: Counter[str] = Counter()
        self.retry_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        key = exchange.key
        if key is None:
            await self.app(scope, receive, send)
            return
        most = self.limit(key, "max_concurrent_requests")
        if most and self.running[key.name] >= most:
            raise over("concurrent requests", most, 1)
        self.running[key.name] += 1
        try:
            await self.check(exchange, key)
            await self.app(scope, receive, send)
        finally:
            self.running[key.name] -= 1
            await self.charge(exchange, key)

    def limit(self, key: Key, name: str) -> int:
        """The key's own limit, or the server's; 0 for none."""
        own = getattr(key, name)
        return int(getattr(self.settings, name) if own is None else own)

    async def check(self, exchange: Exchange, key: Key) -> None:
        """Refuse a key whose minute is used up; else count this request."""
        tokens, requests = self.limit(key, "tokens_per_minute"), self.limit(key, "requests_per_minute")

        async def use() -> None:
            if tokens:
                used = await self.storage.get(f"tokens/{key.name}")
                await self.judge(exchange, key, "tokens", used, tokens, used >= tokens)
            if requests:
                used = await self.storage.incr(f"requests/{key.name}", WINDOW)
                await self.judge(exchange, key, "requests", used, requests, used > requests)

        if (tokens or requests) and not await self.stored(use) and self.settings.rate_limit_failure == "closed":
            message = "Requests cannot be counted at the moment. Ask again soon."
            raise Refusal(503, "rate_limits_unavailable", message, headers=retry_after(STORAGE_PAUSE))

    async def charge(self, exchange: Exchange, key: Key) -> None:
        """Count the tokens that a request has used."""
        used = exchange.usage.total
        if used and self.limit(key, "tokens_per_minute"):
            await self.stored(lambda: self.storage.incr(f"tokens/{key.name}", WINDOW, used))

    async def judge(self, exchange: Exchange, key: Key, kind: str, used: int, limit: int, over_it: bool) -> None:
        """Tell the answer's headers what is left in the key's window, and refuse if that is nothing."""
        reset = await self.storage.get_expiry(f"{kind}/{key.name}") - self.wall()
        if reset > WINDOW + 1:  # the clock was set back: this window would last as long as the step
            await self.storage.clear(f"{kind}/{key.name}")
        reset = min(max(reset, 0.0), WINDOW)
        for name, value in (("limit", limit), ("remaining", max(0, limit - used)), ("reset", f"{reset:.0f}s")):
            exchange.headers.append((f"x-ratelimit-{name}-{kind}".encode(), str(value).encode()))
        if over_it:
            raise over(f"{kind} a minute", limit, reset)

    async def stored(self, use: Callable[[], Awaitable[object]]) -> bool:
        """Run one use of the storage. False if it did not answer, now or a moment ago."""
        if self.clock() < self.retry_at:
            return False
        try:
            await use()
        except StorageError as error:
            self.retry_at = self.clock() + STORAGE_PAUSE
            metrics.STORAGE_FAILURES.inc()
            log(f"the storage of the rate limits does not answer: {type(error.storage_error).__name__}")
            return False
        return True


def over(what: str, most: int, seconds: float) -> Refusal:
    """A refusal for too much of something."""
    message = f"This key may use {most} {what}. Ask again in {max(1, round(seconds))} s."
    return Refusal(429, "rate_limit_exceeded", message, headers=retry_after(seconds))


def storage(settings: GuardSettings) -> Any:
    """The storage that a URL names. Raises ConfigError, without the URL: it may hold a password."""
    scheme = settings.rate_limit_storage.partition(":")[0]
    options = {"socket_timeout": STORAGE_TIMEOUT, "socket_connect_timeout": STORAGE_TIMEOUT}
    try:
        return storage_from_string(
            f"async+{settings.rate_limit_storage}", implementation="redispy", wrap_exceptions=True, **options
        )
    except (ConfigurationError, ValueError) as error:
        message = f"rate_limit_storage={scheme}://…: expected memory:// or redis://HOST:PORT ({type(error).__name__})"
        raise ConfigError(message) from None
