"""Layer: gives each request an id that its answer, its log line and the engine share."""

import re
import uuid

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import Exchange

HEADER = b"x-request-id"
VALID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Keeps a client's valid X-Request-Id or makes a new one."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        given = next((value for name, value in scope["headers"] if name == HEADER and VALID.fullmatch(value)), None)
        value = given or uuid.uuid4().hex.encode()
        exchange.id = value.decode()
        exchange.headers.append((HEADER, value))
        scope["headers"] = [header for header in scope["headers"] if header[0] != HEADER] + [(HEADER, value)]
        await self.app(scope, receive, send)
