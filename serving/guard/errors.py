"""Layer: whatever goes wrong behind it becomes an error body or an error event. Never a stack trace, never silence."""

import asyncio
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.refusal import CUT_OFF, INTERNAL, Refusal

LOGGER = logging.getLogger("serving.guard")
STOPPED = Refusal(503, "server_stopped", "The server was stopped before the answer was complete. Ask again.")


class Errors:
    """Turns refusals, exceptions and answers that stop short into errors that a client understands."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        try:
            await self.app(scope, receive, send)
        except Refusal as refusal:
            await exchange.refuse(refusal)
        except asyncio.CancelledError:
            await exchange.refuse(STOPPED)
            raise
        except Exception:  # of whatever kind: the client gets an error it understands, the log the stack
            LOGGER.exception("request %s failed", exchange.id)
            await exchange.refuse(INTERNAL)
        else:
            if not exchange.complete and not exchange.gone:
                await exchange.refuse(CUT_OFF)
