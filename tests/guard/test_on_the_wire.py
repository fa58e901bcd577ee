"""The guard under a real server, uvicorn on loopback, with clients that write bytes by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from serving.keys import Key, add, digest
from tests.guard.conftest import make_guard
from tests.guard.stub import ANSWER, CHAT, EVENTS, Clock, Engine, chat

pytestmark = pytest.mark.anyio
Connect = Callable[[], "asyncio.Future[Peer]"]
LIMIT = 5.0  # seconds; nothing here waits that long unless it hangs


class Peer:
    """A client that writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, method: str, path: str, body: bytes = b"", *headers: str, length: bool = True) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
        lines += [f"Content-Length: {len(body)}"] if length else []
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One whole answer of known length."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), LIMIT)).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await asyncio.wait_for(self.reader.readexactly(int(headers.get("content-length", "0"))), LIMIT)
        return int(head[0].split()[1]), headers, body

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self.reader.read(), LIMIT)

    async def until(self, text: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(text), LIMIT)


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    """uvicorn's two parsers; which one serves depends on what is installed."""
    return str(request.param)


@asynccontextmanager
async def served(engine: Engine, http: str, **settings: object) -> AsyncIterator[Connect]:
    """A server with the guard around the engine, and a way to connect to it."""
    guard = make_guard(engine, Clock(), **settings)
    config = uvicorn.Config(guard, host="127.0.0.1", port=0, http=http, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    peers: list[Peer] = []

    async def connect() -> Peer:
        peers.append(Peer(*await asyncio.open_connection("127.0.0.1", port)))
        return peers[-1]

    try:
        yield connect  # type: ignore[misc]
    finally:
        for peer in peers:
            peer.writer.close()
        server.should_exit = server.force_exit = True
        await asyncio.wait_for(serving, LIMIT)


async def test_answers_on_a_connection_that_stays_open(engine: Engine, http: str) -> None:
    async with served(engine, http) as connect:
        peer = await connect()
        for method, path, body, status in (
            ("POST", CHAT, chat(), 200),
            ("GET", "/nothing", b"", 404),
            ("POST", CHAT, b"{", 400),
            ("POST", "/x", b"y" * 1000, 404),
            ("GET", "/v1/models", b"", 200),
            ("POST", CHAT, chat(), 200),
        ):
            peer.send(method, path, body)
            assert (await peer.answer())[0] == status


async def test_a_stream_passes_part_by_part(engine: Engine, http: str) -> None:
    engine.gate = asyncio.Semaphore(0)
    async with served(engine, http) as connect:
        peer = await connect()
        peer.send("POST", CHAT, chat(stream=True))
        await peer.until(b"\r\n\r\n")
        for event in EVENTS:
            assert engine.gate.locked()
            engine.gate.release()
            assert event.strip() in await peer.until(b"\n\n")


async def test_a_client_that_hangs_up_stops_the_engine(engine: Engine, http: str) -> None:
    engine.gate = asyncio.Semaphore(1)
    async with served(engine, http) as connect:
        for stream in (True, False):
            peer = await connect()
            peer.send("POST", CHAT, chat(stream=stream))
            if stream:
                await peer.until(b"\n\n")
            before = engine.disconnects
            peer.writer.close()
            async with asyncio.timeout(LIMIT):
                while engine.disconnects == before:
                    await asyncio.sleep(0.01)


async def test_chunked_bodies_are_counted_as_they_come(engine: Engine, http: str) -> None:
    async with served(engine, http, max_body_bytes=100_000) as connect:
        peer = await connect()
        peer.send("POST", CHAT, b"", "Transfer-Encoding: chunked", length=False)
        body = chat()
        peer.writer.write(b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (10, body[:10], len(body) - 10, body[10:]))
        assert (await peer.answer())[2] == ANSWER.encode()

        peer = await connect()
        peer.send("POST", CHAT, b"", "Transfer-Encoding: chunked", length=False)
        for _ in range(3):
            peer.writer.write(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
        status, headers, error = await peer.answer()
        assert (status, headers["connection"], json.loads(error)["error"]["code"]) == (413, "close", "body_too_large")
        assert await peer.rest() == b""
        assert len(engine.bodies) == 1


async def test_a_body_that_is_announced_too_large_is_not_read(engine: Engine, http: str) -> None:
    async with served(engine, http) as connect:
        peer = await connect()
        peer.send("POST", CHAT, b"", "Content-Length: 1000000000", length=False)
        assert (await peer.answer())[0] == 413
        assert await peer.rest() == b""


async def test_a_slow_sender_is_cut_off(engine: Engine, http: str) -> None:
    async with served(engine, http, body_timeout=0.05) as connect:
        peer = await connect()
        peer.send("POST", CHAT, b"{", "Content-Length: 10", length=False)
        status, _, error = await peer.answer()
        assert (status, json.loads(error)["error"]["code"]) == (408, "body_too_slow")
        assert await peer.rest() == b""


async def test_a_body_is_called_for_only_with_a_key(engine: Engine, http: str, tmp_path: Path) -> None:
    secret = add(tmp_path / "keys", Key("alice", digest("")))
    async with served(engine, http, keys_file=str(tmp_path / "keys")) as connect:
        for key, answer in ((secret, b"HTTP/1.1 100"), ("xy-wrong", b"HTTP/1.1 401")):
            peer = await connect()
            peer.send("POST", CHAT, b"", "Content-Length: 9", "Expect: 100-continue", f"x-api-key: {key}", length=False)
            assert (await peer.until(b"\r\n\r\n")).startswith(answer)


async def test_a_deadline_ends_a_stream_on_the_wire(engine: Engine, http: str) -> None:
    engine.gate = asyncio.Semaphore(1)
    async with served(engine, http, request_timeout=0.05) as connect:
        peer = await connect()
        peer.send("POST", CHAT, chat(stream=True), "Connection: close")
        answer = await peer.rest()
        assert b'"code": "request_timeout"' in answer
        assert answer.endswith(b"0\r\n\r\n")
        assert engine.disconnects == 1


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
BROKEN = [
    # Both length headers, each order: what one side takes for a body the other could take for a request.
    POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}  " + SMUGGLED,
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: \xb2\r\n\r\n",
    b"GET /v1/mod\x00els HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x00\x01\x02\r\n\r\n",
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("sent", BROKEN, ids=range(len(BROKEN)))
async def test_broken_requests_reach_nothing_and_the_next_is_served(engine: Engine, http: str, sent: bytes) -> None:
    async with served(engine, http) as connect:
        peer = await connect()
        peer.writer.write(sent)
        peer.writer.write_eof()
        try:
            answer = await peer.rest()
        except ConnectionResetError:  # closed on bytes that the server did not read any more
            answer = b""
        assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer
        assert engine.bodies == []
        assert "/metrics" not in [scope["path"] for scope in engine.scopes]
        peer = await connect()
        peer.send("POST", CHAT, chat())
        assert (await peer.answer())[0] == 200
