"""Layer: /ready, which says whether this server can answer now. /health, which says whether it lives, is the engine's.

Ready means: not draining, the engine's own health is good, and a token has come out of it: for a client, or for a probe
of one token where no client asked. A busy engine is not probed and never called unready for being slow; only once a
request has run into its deadline while no token came for anyone is it asked for one all the same. /ready itself never
waits for a token: it tells what is known, and has a probe made in the background.
"""

import asyncio
import json
import logging
import math

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.inner import ask
from serving.guard.refusal import Refusal

LOGGER = logging.getLogger("serving.guard")
PROBLEMS = {
    "draining": "this server is shutting down",
    "engine_unhealthy": "the engine reports that it is dead",
    "starting": "the engine has not produced a token yet",
    "engine_silent": "the engine does not produce tokens",
}


class Readiness:
    """Answers /ready."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.context = context
        self.settings = context.settings
        self.probed_at = self.good_at = self.failed_at = -math.inf
        self.probing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if Exchange.of(scope).route.path != "/ready":
            await self.app(scope, receive, send)
            return
        if problem := await self.problem(scope):
            raise Refusal(503, problem, f"Not ready: {PROBLEMS[problem]}.", headers={"retry-after": "1"})
        body = json.dumps({"status": "ready", "running": self.context.activity.running}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def problem(self, scope: Scope) -> str:
        """Why the server is not ready: a key of PROBLEMS, or '' if it is. Begins a probe where one is due."""
        if self.context.drain.announced:
            return "draining"
        if not await self.healthy(scope):
            return "engine_unhealthy"
        good_at = max(self.good_at, self.context.activity.token_at)
        if self.due(good_at):
            self.probed_at = self.context.clock()
            self.probing = asyncio.create_task(self.probe(scope, self.probed_at), name="ready-probe")
        # A probe fails as of its beginning: a token that came meanwhile, for whomever, outweighs it.
        if self.failed_at > good_at:
            return "engine_silent"
        return "starting" if good_at == -math.inf else ""

    def due(self, good_at: float) -> bool:
        """Whether the engine has to be asked: it is idle and was not heard of lately, or it seems stuck."""
        now, pause, activity = self.context.clock(), self.settings.ready_probe_seconds, self.context.activity
        if now - self.probed_at < pause or (self.probing and not self.probing.done()):
            return False
        return activity.stuck_at > good_at or (not activity.running and now - good_at >= pause)

    async def healthy(self, scope: Scope) -> bool:
        """What the engine says of itself."""
        try:
            status, _ = await ask(self.context.engine, scope, "GET", "/health")
        except Exception:  # whatever the engine's app raises, the answer is: not healthy
            LOGGER.exception("/health failed")
            return False
        return status == 200

    async def probe(self, scope: Scope, started: float) -> None:
        """Have the engine generate one token."""
        try:
            async with asyncio.timeout(self.settings.ready_probe_timeout):
                _, models = await ask(self.context.engine, scope, "GET", "/v1/models")
                request = {"model": json.loads(models)["data"][0]["id"], "prompt": "1", "max_tokens": 1}
                status, _ = await ask(self.context.engine, scope, "POST", "/v1/completions", request)
        except Exception as error:
            LOGGER.error("ready probe: %s", type(error).__name__)
            status = 0
        if status == 200:
            self.good_at = self.context.clock()
        else:
            self.failed_at = started
