"""Layer: a request's body, whole and judged before anything is built from it: size, time, shape, what it asks for."""

import asyncio
import json
import math
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.guard import shapes
from serving.guard.ceilings import check
from serving.guard.context import Context
from serving.guard.exchange import Exchange
from serving.guard.json_scan import measure
from serving.guard.refusal import Refusal

CLOSE = {"connection": "close"}  # the rest of the body will not be read
# Digits that may be a whole number of more than 64 bits: looked for first, as a check of every number takes time.
MANY_DIGITS = re.compile(rb"\d{19}")


class Bodies:
    """Reads the JSON body of the routes that take one, and hands the same bytes on."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app = app
        self.settings = context.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        if not exchange.route.takes_body:
            await self.app(scope, receive, send)
            return
        body = await self.read(scope, receive)
        exchange.body_bytes = len(body)
        document = self.parse(body)
        shapes.check(exchange.route.path, document)
        if exchange.route.generates:
            exchange.sequences = check(document, self.settings)
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self.app(scope, replay, send)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises Refusal if it is too large, announced or not, or too slow."""
        most = self.settings.max_body_bytes
        if any(name == b"content-length" and int(value) > most for name, value in scope["headers"]):
            raise too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.body_timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(499, "client_gone", "The client left before its request was complete.")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise too_large(most)
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            text = f"The request body did not arrive within {self.settings.body_timeout:g} s."
            raise Refusal(408, "body_too_slow", text, headers=CLOSE) from None

    def parse(self, body: bytes) -> dict[str, Any]:
        """The JSON object that a body is. Raises Refusal."""
        depth, values = measure(body, self.settings.max_json_values)
        if values > self.settings.max_json_values:
            raise invalid(f"a body may hold {self.settings.max_json_values} values", "json_too_large")
        if depth > self.settings.max_json_depth:
            raise invalid(f"a body may be nested {self.settings.max_json_depth} deep", "json_too_deep")
        try:
            # As text, so that this reading and the engine's are of the same encoding.
            whole = of_64_bits if MANY_DIGITS.search(body) else None
            document = json.loads(body.decode("utf-8"), parse_float=finite, parse_constant=finite, parse_int=whole)
            if b"\\u" in body:  # half of a surrogate pair is no text, and fails only deep in the engine
                json.dumps(document, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise invalid(explain(error)) from None
        if not isinstance(document, dict):
            raise invalid("expected an object")
        return document


def finite(text: str) -> float:
    """A JSON number. Raises ValueError for what no JSON number can be: NaN, Infinity, 1e999."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number out of range: {text[:16]}")
    return value


def of_64_bits(text: str) -> int:
    """A whole JSON number. Raises ValueError for one that the engine could not hold."""
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"number out of range: {text[:16]}")
    return value


def explain(error: Exception) -> str:
    """What is wrong with a body, by place and kind; never its text."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.removesuffix(' at')} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return "a lone surrogate" if isinstance(error, UnicodeEncodeError) else "a number out of range"


def too_large(most: int) -> Refusal:
    """A refusal for a body of more than `most` bytes."""
    return Refusal(413, "body_too_large", f"A request body may have {most} bytes.", headers=CLOSE)


def invalid(what: str, code: str = "invalid_json") -> Refusal:
    """A refusal for a body that is no good JSON."""
    return Refusal(400, code, f"The request body is not usable JSON: {what}.")
