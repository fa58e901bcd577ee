"""An app in the engine's place, whose every step a test can watch and hold up, and a client that is driven by hand."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHAT = "/v1/chat/completions"
EVENTS = (
    b'data: {"id":"1","choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"id":"1","choices":[{"delta":{"content":"\\"usage\\":{\\"prompt_tokens\\":999}"}}]}\n\n',
    b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
)
ANSWER = json.dumps(
    {"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
)
Request = dict[str, Any]


@dataclass
class Engine:
    """Answers what the engine answers. `gate`: when set, an answer waits for it before each of its parts."""

    events: Sequence[bytes] = EVENTS
    gate: asyncio.Semaphore | None = None
    healthy: bool = True
    failure: BaseException | None = None
    listens: bool = True
    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    disconnects: int = 0
    cancelled: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.scopes.append(scope)
        if scope["path"] == "/health":
            await respond(send, 200 if self.healthy else 503, b"")
        elif scope["path"] == "/v1/models":
            await respond(send, 200, b'{"data":[{"id":"stub"}]}')
        elif scope["method"] == "POST":
            await self.generate(receive, send)
        else:
            await respond(send, 200, scope["path"].encode())

    async def generate(self, receive: Receive, send: Send) -> None:
        """Answer as the engine's app does: work in one task, and listen for the client's leave beside it."""
        body = await receive()
        self.bodies.append(body.get("body", b""))
        work = asyncio.ensure_future(self.work(json.loads(self.bodies[-1]), send))
        leave = asyncio.ensure_future(receive()) if self.listens else asyncio.get_running_loop().create_future()
        try:
            done, _ = await asyncio.wait((work, leave), return_when=asyncio.FIRST_COMPLETED)
            if leave in done and leave.result()["type"] == "http.disconnect":
                self.disconnects += 1
            if work in done:
                work.result()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            work.cancel()
            leave.cancel()

    async def work(self, request: Request, send: Send) -> None:
        """Generate."""
        if not request.get("stream"):
            await self.turn()
            await respond(send, 200, ANSWER.encode())
            return
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in self.events:
            await self.turn()
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def turn(self) -> None:
        """Wait for the test's word, and fail if it says so."""
        if self.gate is not None:
            await self.gate.acquire()
        if self.failure is not None:
            raise self.failure


async def respond(send: Send, status: int, body: bytes) -> None:
    """A whole answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(b"access-control-allow-origin", b"*"), (b"x-request-id", b"theirs")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Call:
    """One request to an app, under way in a task. `sent` holds the app's messages as they come."""

    app: ASGIApp
    method: str = "POST"
    path: str = CHAT
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    client: str = "127.0.0.1"
    raw_path: bytes | None = None
    sent: list[Message] = field(default_factory=list)
    inbox: "asyncio.Queue[Message]" = field(default_factory=asyncio.Queue)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None

    def start(self, *, send_body: bool = True) -> "Call":
        """Send the request; with `send_body` off the test puts the body's messages into `inbox` itself."""
        names = {name.lower(): value for name, value in {"host": "localhost:8000", **self.headers}.items()}
        path, _, query = self.path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": self.method,
            "path": path,
            "query_string": query.encode(),
            "root_path": "",
            "raw_path": path.encode() if self.raw_path is None else self.raw_path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in names.items()],
            "client": (self.client, 50000),
            "server": ("127.0.0.1", 8000),
        }
        if send_body:
            self.inbox.put_nowait({"type": "http.request", "body": self.body, "more_body": False})
        self.task = asyncio.ensure_future(self.app(scope, self.inbox.get, self.send))
        return self

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.arrived.set()

    def leave(self) -> None:
        """Hang up."""
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def until(self, parts: int) -> None:
        """Return when that many messages have come."""
        while len(self.sent) < parts:
            self.arrived.clear()
            await self.arrived.wait()

    async def done(self) -> "Call":
        """Wait for the end."""
        assert self.task is not None
        await asyncio.wait_for(self.task, 10)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def answer(self) -> dict[str, str]:
        """The answer's headers."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body, or in the last event of the stream."""
        text = self.content.rstrip().rpartition(b"\ndata: ")[2].removeprefix(b"data: ")
        found = json.loads(text)["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return dict(found)


def chat(**fields: Any) -> bytes:
    """A chat request's body."""
    return json.dumps({"model": "stub", "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()


class Clock:
    """A clock that only the test moves."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
