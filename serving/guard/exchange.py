"""One request and its answer: what the layers know of it, and the one place through which its messages pass."""

import asyncio
from collections.abc import Iterable
from functools import cached_property

from starlette.types import Message, Receive, Scope, Send

from serving.guard.context import Context
from serving.guard.refusal import CUT_OFF, Refusal
from serving.guard.routes import UNKNOWN
from serving.guard.usage import Document, EventStream, Usage
from serving.keys import Key

KEY = "xuanyuan.exchange"
# A client that has stopped reading does not get to hold the request up for the sake of its error event.
PARTING_SECONDS = 1.0
Header = tuple[bytes, bytes]
UNBUFFERED = (b"x-accel-buffering", b"no")  # nginx would collect a stream in its buffers


class Exchange:
    """State of one request. The layers write what they find out; the outermost ones read it when all is over."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.context = context
        self.started_at = context.clock()
        self.id = ""
        self.route = UNKNOWN
        self.key: Key | None = None
        self.body_bytes = 0
        self.sequences = 1
        self.headers: list[Header] = []
        self.status = 0
        self.reason = ""
        self.streaming = False
        self.watched: EventStream | Document | None = None
        self.first_token_at: float | None = None
        self.complete = False
        self.gone = False
        self.closed = False

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """The exchange that a scope belongs to."""
        found = scope[KEY]
        assert isinstance(found, Exchange)
        return found

    @property
    def key_name(self) -> str:
        """Who asks, for logs and metrics."""
        return self.key.name if self.key else "-"

    @property
    def outcome(self) -> int:
        """The status for logs and metrics; 499, as nginx has it, where the client left before the answer was over."""
        return 499 if self.gone and not self.complete else self.status

    @property
    def quiet(self) -> bool:
        """Whether nobody needs to hear of it: a good answer on a route where they come by the dozen."""
        return self.route.quiet and self.status < 400

    @cached_property
    def usage(self) -> Usage:
        """Tokens used, as the engine counts them. To be read once the answer is over."""
        return self.watched.usage() if self.watched else Usage(0, 0)

    async def receive(self) -> Message:
        """The next message from the client."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.complete:
            self.gone = True
            self.reason = self.reason or "client_gone"
        return message

    async def send(self, message: Message) -> None:
        """Pass one message of the answer on at once, except to a client that was refused meanwhile or left early."""
        if self.closed or (self.gone and self.status == 0):
            return
        if message["type"] == "http.response.start":
            message = self._begin(message)
        elif message["type"] == "http.response.body":
            await self._body(message)
            return
        await self._send(message)

    def _begin(self, message: Message) -> Message:
        """Note the status, add the guard's headers, and start watching what the engine says."""
        self.status = message["status"]
        headers = [header for header in message.get("headers", ()) if not _ours(header[0])]
        if self.route.generates and self.status == 200:
            self.streaming = _is_event_stream(headers)
            route = self.route
            self.watched = EventStream(route.stream_end, route.stream_begin) if self.streaming else Document()
        if self.streaming:
            headers.append(UNBUFFERED)
        return {**message, "headers": headers + self.headers}

    async def _body(self, message: Message) -> None:
        """Pass a piece of the body on. A stream's end without its last event gets an error event before it."""
        watched, body = self.watched, message.get("body", b"")
        if watched is not None and body:
            watched.feed(body)
            if watched.events:
                self.context.activity.token_at = self.context.clock()
                if self.first_token_at is None:
                    self.first_token_at = self.context.activity.token_at
            if watched.failed:
                self.reason = "engine_error"
        if message.get("more_body"):
            await self._send(message)
            return
        if watched is not None and not watched.finished and not self.gone:
            await self._send({**message, "more_body": True})
            await self._last_event(CUT_OFF)
        else:
            self.complete = True
            await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """End the exchange with an error: as the answer, or as the last event of a stream that has begun.

        An answer in JSON that has begun can be neither: the caller returns, and the server closes the connection.
        """
        self.closed = True
        self.reason = refusal.code
        if self.status == 0:
            body = refusal.body
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
            headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
            start = {"type": "http.response.start", "status": refusal.status, "headers": headers}
            await self._send(self._begin(start))
            self.complete = True
            await self._send({"type": "http.response.body", "body": body})
        elif self.streaming and not self.complete:
            await self._last_event(refusal)

    async def _last_event(self, refusal: Refusal) -> None:
        """End the stream with an error event. What was cut off in the middle of an event is closed first."""
        self.reason = refusal.code
        cut = b"\n\n" if self.watched is not None and self.watched.pending else b""
        event = cut + refusal.event(named=self.route.named_events)
        try:
            async with asyncio.timeout(PARTING_SECONDS):
                await self._send({"type": "http.response.body", "body": event})
            self.complete = True
        except TimeoutError:
            self.gone = True


def _ours(name: bytes) -> bool:
    """Whether a header of the answer is for the guard alone to set."""
    return name == b"x-request-id" or name.startswith(b"access-control-")


def _is_event_stream(headers: Iterable[Header]) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)
