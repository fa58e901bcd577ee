"""Layer: one line a request, for people or for machines. Never text of a prompt or an answer, never a key."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.guard import metrics
from serving.guard.context import Context
from serving.guard.exchange import Exchange

LOGGER = logging.getLogger("serving.guard")


class AccessLog:
    """Writes the access line to standard error. One that cannot be (full disk) is counted and costs no answer.

    That it cannot is said once, in the engine's log, until one can again.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.context = context
        formats: dict[str, Callable[[dict[str, Any]], str]] = {"json": as_json, "console": as_text}
        self.format = formats.get(context.settings.log_format)
        self.failing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            exchange = Exchange.of(scope)
            if self.format is not None and not exchange.quiet:
                self.write(self.format(self.facts(exchange)))

    def write(self, line: str) -> None:
        """One line to standard error at once."""
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (OSError, ValueError) as error:  # ValueError: closed, while the process ends
            metrics.LOG_FAILURES.inc()
            if not self.failing:
                LOGGER.error("access lines cannot be written (%s): requests are answered without", error)
            self.failing = True
        else:
            self.failing = False

    def facts(self, exchange: Exchange) -> dict[str, Any]:
        """What is said of a request. Times in seconds; the path only where it is one of ours."""
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(self.context.wall(), UTC).isoformat(timespec="milliseconds"),
            "id": exchange.id,
            "key": exchange.key_name,
            "method": exchange.scope["method"][:16],
            "route": exchange.route.path,
            "status": exchange.outcome,
        }
        if exchange.reason:
            facts["reason"] = exchange.reason
        if exchange.watched is not None:
            facts |= {"prompt_tokens": exchange.usage.prompt, "completion_tokens": exchange.usage.completion}
        if exchange.streaming and exchange.first_token_at is not None:
            facts["first_token_s"] = round(exchange.first_token_at - exchange.started_at, 6)
        facts["total_s"] = round(self.context.clock() - exchange.started_at, 6)
        return facts


def as_json(facts: dict[str, Any]) -> str:
    """The line for machines."""
    return json.dumps(facts, separators=(",", ":"))


def as_text(facts: dict[str, Any]) -> str:
    """The line for people: the same facts in the same order."""
    named = [f"{name}={value}" for name, value in facts.items() if name not in ("time", "method", "route", "status")]
    return f"{facts['time']} {facts['method']} {facts['route']} {facts['status']} {' '.join(named)}"
