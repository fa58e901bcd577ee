"""An app that answers what a test dictates, behind the real guard and a real HTTP server, in a thread here."""

import asyncio
import json
import socket
import threading
import time
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from serving.guard.drain import Drain
from serving.guard.served import Served
from serving.guard.settings import GuardSettings
from serving.guard.stack import Guard

TOKENS = ["<s>", "▁Human", ":", "▁hi", "</", "s", ">", "<0x0A>", "▁Assistant", ":"]
SERVED = Served("float16", True, {"temperature": 0.7, "top_p": 0.95, "max_tokens": 256}, ("<s>", "</s>", "<unk>"))


class ScriptedServer:
    """Each answer is `pieces`, one event each, `pause` seconds apart. `requests` are the bodies that came."""

    def __init__(self, served: Served = SERVED, **settings: Any) -> None:
        self.served = served
        self.settings = GuardSettings(**{"log_format": "none", **settings})
        self.pieces: list[str] = ["Hello."]
        self.pause = 0.0
        self.cut = False
        self.requests: list[dict[str, Any]] = []
        self.port = 0
        self.drain = Drain()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; the second time on the port of before."""
        guard = Guard(self.app, self.settings, drain=self.drain, served=self.served)
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            guard, log_config=None, lifespan="off", timeout_graceful_shutdown=1, server_header=False
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listening]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        """End."""
        self.server.should_exit = True
        self.thread.join(10)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The engine's app, as far as the page asks it."""
        body = (await receive()).get("body") or b"null"
        if scope["path"] == "/v1/models":
            await whole(send, {"data": [{"id": "XuanYuan-6B-Chat", "max_model_len": 2048}]})
        elif scope["path"] == "/tokenize":
            facts = {"count": len(TOKENS), "max_model_len": 2048, "tokens": [*range(len(TOKENS))], "token_strs": TOKENS}
            await whole(send, facts)
        else:
            self.requests.append(json.loads(body))
            await self.stream(send, chat=scope["path"] == "/v1/chat/completions")

    async def stream(self, send: Send, *, chat: bool) -> None:
        """The answer. The pace is that of a clock: what is late is caught up."""
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        begun = time.monotonic()
        for count, piece in enumerate(self.pieces):
            await asyncio.sleep(begun + count * self.pause - time.monotonic())
            await event(send, {"choices": [{"delta": {"content": piece}} if chat else {"text": piece}]})
        if not self.cut:
            await event(send, {"choices": [{"delta": {}, "finish_reason": "stop"}]})
            await event(send, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(self.pieces)}})
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def event(send: Send, document: dict[str, Any]) -> None:
    """One event of a stream."""
    body = f"data: {json.dumps(document)}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def whole(send: Send, document: dict[str, Any]) -> None:
    """An answer as one JSON document."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(document).encode()})
