"""An HTTP server on loopback that answers from a script, byte for byte: what no real engine can be made to show."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model", "max_model_len": 2048}]}).encode()
DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    """One chat chunk as vLLM sends it."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "tiny", "choices": [choice]}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def usage(completion_tokens: int) -> bytes:
    """The chunk that stream_options.include_usage adds at the end."""
    counts = {"prompt_tokens": 5, "completion_tokens": completion_tokens, "total_tokens": 5 + completion_tokens}
    return b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"


def answer(*pieces: str, finish_reason: str = "stop") -> list[bytes]:
    """A whole, well-formed answer: the role, the pieces, the end, the usage, [DONE]."""
    texts = [event({"content": piece}) for piece in pieces]
    return [
        event({"role": "assistant", "content": ""}),
        *texts,
        event({"content": ""}, finish_reason),
        usage(len(pieces)),
        DONE,
    ]


@dataclass(frozen=True)
class Reply:
    """What one chat request gets: the pieces are sent one by one, `pause` seconds apart; `cut` leaves the end out."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    pause: float = 0.0
    cut: bool = False


def refuse(status: int, body: object, **headers: str) -> Reply:
    """A refusal: `body` as JSON, a string as it is; header names with _ for -."""
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply([text.encode()], status, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class ScriptedServer:
    """`replies` are used up one a chat request; `requests` are the bodies that came, `keys` their Authorization."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    models: bytes = MODELS
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    broken_off: threading.Event = field(default_factory=threading.Event)

    def script(self, *replies: Reply | list[bytes]) -> None:
        self.replies += [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]


def handler(script: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(script.models)))
            self.end_headers()
            self.wfile.write(script.models)

        def do_POST(self) -> None:
            script.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            script.keys.append(self.headers["Authorization"])
            reply = script.replies.pop(0)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                self.send_pieces(reply)
            except OSError:
                script.broken_off.set()

        def send_pieces(self, reply: Reply) -> None:
            for piece in reply.pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(reply.pause)
            if not reply.cut:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Nothing: the tests look at stderr."""

    return Handler


@contextmanager
def running() -> Iterator[ScriptedServer]:
    """A server on a free port of loopback, until the block ends."""
    script = ScriptedServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(script)) as httpd:
        script.url = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            httpd.shutdown()
            thread.join()
