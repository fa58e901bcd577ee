"""Layer: /status, one small JSON object about the model and, for who may read metrics, about the load.

It is answered before quotas are counted: a page that asks every few seconds does not eat its user's requests.
"""

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.answer import send_answer
from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.inner import ask
from serving.guard.load import Load
from serving.guard.routes import Access

PATH = "/status"
PAUSE = 1.0  # seconds in which everybody gets the same look at the load
HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


class Status:
    """Answers /status."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.context = context
        self.started_at = context.clock()
        self.load = Load(self.started_at)
        self.looking = asyncio.Lock()
        self.model: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        if exchange.route.path != PATH:
            await self.app(scope, receive, send)
            return
        assert exchange.key is not None
        facts = await self.facts(scope)
        if {Access.METRICS.value, "admin"} & set(exchange.key.scopes):
            facts["load"] = await self.current_load()
        await send_answer(scope, send, 200, HEADERS, json.dumps(facts).encode())

    async def facts(self, scope: Scope) -> dict[str, Any]:
        """What is served, and for how long. `load` is there in any case, so that its absence can be seen."""
        served = self.context.served
        return {
            **await self.identity(scope),
            "precision": served.precision or None,
            "chat": served.chat,
            "sampling": dict(served.sampling),
            "control_tokens": list(served.control_tokens),
            # Announced: requests are still taken. Later this route, too, is refused as draining.
            "draining": self.context.drain.announced,
            "uptime_seconds": round(self.context.clock() - self.started_at, 1),
            "load": None,
        }

    async def identity(self, scope: Scope) -> dict[str, Any]:
        """The model's name and the context in tokens: the engine's own word, asked for until it is given."""
        if not self.model:
            status, body = await ask(self.context.engine, scope, "GET", "/v1/models")
            if status != 200:
                return {"model": None, "context": None}
            first = json.loads(body)["data"][0]
            self.model = {"model": first["id"], "context": first.get("max_model_len")}
        return self.model

    async def current_load(self) -> dict[str, Any]:
        """How busy the server is. Files of other processes may have to be read, so not in the event loop."""
        async with self.looking:
            now = self.context.clock()
            if len(self.load.looks) == 1 or now - self.load.looks[-1].at >= PAUSE:
                await asyncio.to_thread(self.load.look, now)
            return self.load.facts()
