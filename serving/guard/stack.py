"""The guard: its layers in order, around an ASGI app. `--middleware serving.guard.Guard` puts it around the engine's.

A request's way, outermost first; an answer goes the other way:
"""

import os
import time
from collections.abc import Callable

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.access_log import AccessLog
from serving.guard.admission import Admission
from serving.guard.authentication import Authentication
from serving.guard.bodies import Bodies
from serving.guard.context import Context
from serving.guard.deadlines import Deadlines
from serving.guard.drain import PROCESS, Drain
from serving.guard.draining import Draining
from serving.guard.errors import Errors
from serving.guard.exchange import KEY, Exchange
from serving.guard.measuring import Measuring
from serving.guard.overload import Overload
from serving.guard.page import Page
from serving.guard.quotas import Quotas
from serving.guard.readiness import Readiness
from serving.guard.request_id import RequestId
from serving.guard.routing import Routing
from serving.guard.served import Served
from serving.guard.settings import GuardSettings
from serving.guard.status import Status

LAYERS = (
    RequestId,  # an id for the request, its answer, its log line and the engine
    AccessLog,  # one line when it is over
    Measuring,  # and its metrics
    Errors,  # what goes wrong behind here becomes an error that clients understand
    Routing,  # only paths of the table exist
    Readiness,  # answers /ready
    Page,  # answers / and what belongs to it
    Draining,  # no new request once the server is to stop
    Authentication,  # who asks, and may they
    Overload,  # nothing is done for a request that could not be served
    Status,  # answers /status
    Quotas,  # how much each key may ask
    Bodies,  # the body: size, time, shape, what it asks for
    Admission,  # a bounded line before the engine
    Deadlines,  # a bounded time in it
)


class Guard:
    """All layers around `app`. `settings` and `served` come from the environment. Raises ConfigError when built."""

    def __init__(
        self,
        app: ASGIApp,
        settings: GuardSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        drain: Drain = PROCESS,
        served: Served | None = None,
    ) -> None:
        self.app = app
        settings = settings or GuardSettings.from_environ(os.environ)
        served = served or Served.from_environ(os.environ)
        self.context = Context(settings, app, clock, wall, drain, served=served)
        for layer in reversed(LAYERS):
            app = layer(app, self.context)
        self.layers = app
        self.answer: ASGIApp = self.exchange
        if settings.origins:
            self.answer = CORSMiddleware(
                self.exchange, allow_origins=settings.origins, allow_methods=("GET", "POST"), allow_headers=("*",)
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(scope, receive, send)

    async def exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        exchange = Exchange(scope, receive, send, self.context)
        await self.layers({**scope, KEY: exchange}, exchange.receive, exchange.send)
