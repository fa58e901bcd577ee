"""Clients that idle, dawdle, leave or run out of time on the real server; and that their keys show up nowhere."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
import pytest

from serving.keys import SCOPES, Key, add, digest
from tests.guard.engine_clients import Told, ask, begun, completion, get, wait_running
from tests.guard.wire_cases import CHAT
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.anyio]
IDLE = 2000
REQUEST_TIMEOUT = 8.0


class Guarded(NamedTuple):
    """A server that asks for keys, and one that opens it."""

    server: ServerProcess
    key: str
    keys_file: Path

    @property
    def url(self) -> str:
        return self.server.url

    def session(self) -> aiohttp.ClientSession:
        """A client with the key and as many connections as it wants."""
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers={"x-api-key": self.key})


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "keys.json"
    key = add(file, Key("alice", digest(""), scopes=SCOPES))
    server = ServerProcess(["--keys-file", str(file), "--request-timeout", str(REQUEST_TIMEOUT)], folder)
    try:
        yield Guarded(server.wait_ready(), key, file)
    finally:
        server.stop()


async def seconds_of(guarded: Guarded) -> float:
    """How long a short answer takes."""
    async with guarded.session() as session:
        started = time.monotonic()
        assert (await ask(session, guarded.url, 4)).done
        return time.monotonic() - started


async def test_idle_connections_keep_nobody_waiting(guarded: Guarded) -> None:
    port = int(guarded.url.rpartition(":")[2])
    await seconds_of(guarded)
    idle = []
    try:
        for _ in range(IDLE):
            idle.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        assert await seconds_of(guarded) < 5
        for connection in idle[::2]:  # headers that never end
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert await seconds_of(guarded) < 5
    finally:
        for connection in idle:
            connection.close()


async def test_a_client_that_reads_a_byte_a_second_holds_up_nobody(guarded: Guarded) -> None:
    """More is written for it than all buffers hold; at its deadline its work in the engine ends all the same."""
    body = json.dumps({**completion(2000), "n": 16}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nx-api-key: {guarded.key}\r\n"
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.connect(("127.0.0.1", int(guarded.url.rpartition(":")[2])))
        slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        slow.setblocking(False)
        for _ in range(3):
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(slow, 1), 10)
            assert await seconds_of(guarded) < 5
            await asyncio.sleep(1)
        await wait_running(guarded.url, guarded.key, 0, REQUEST_TIMEOUT + 3)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_its_work_in_the_engine(guarded: Guarded, stream: bool) -> None:
    async with guarded.session() as session:
        other = Told()
        staying = asyncio.create_task(ask(session, guarded.url, 4000, other))
        await begun([other])
        leaving = asyncio.create_task(
            session.post(f"{guarded.url}/v1/completions", json=completion(4000, stream=stream))
        )
        await wait_running(guarded.url, guarded.key, 2, 5)
        if stream:
            (await leaving).close()
        else:
            leaving.cancel()
        await wait_running(guarded.url, guarded.key, 1, 1)
        assert not staying.done()
        await staying


async def test_an_expired_request_stops_its_work_in_the_engine(guarded: Guarded) -> None:
    async with guarded.session() as session:
        first, second = Told(), Told()
        expiring = asyncio.create_task(ask(session, guarded.url, 4000, first))
        await asyncio.sleep(3)
        staying = asyncio.create_task(ask(session, guarded.url, 4000, second))
        await wait_running(guarded.url, guarded.key, 2, 3)
        await expiring
        await wait_running(guarded.url, guarded.key, 1, 1)
        assert first.explained and b"request_timeout" in first.body
        assert not staying.done()
        await staying


def mentions(text: str, keys: list[str]) -> list[str]:
    """The keys of which a piece of twelve characters stands in the text."""
    return [key for key in keys if any(key[at : at + 12] in text for at in range(3, len(key) - 11))]


async def test_keys_are_nowhere_to_be_found(guarded: Guarded) -> None:
    wrong = guarded.key[:-4] + "AAAA"
    texts = []
    async with aiohttp.ClientSession() as session:
        for key in (guarded.key, wrong):
            for headers in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}, {"Authorization": key}):
                for path, body in (("/v1/chat/completions", CHAT), ("/v1/chat/completions", {"n": "x"}), ("/nope", {})):
                    async with session.post(guarded.url + path, json=body, headers=headers) as answer:
                        texts.append(str(answer.headers) + await answer.text())
        async with session.get(f"{guarded.url}/v1/models?api_key={guarded.key}") as answer:
            assert answer.status == 401
            texts.append(str(answer.headers) + await answer.text())
    texts += [get(f"{guarded.url}{path}", guarded.key)[1] for path in ("/metrics", "/ready", "/health", "/v1/models")]
    texts += [guarded.server.screen(), guarded.server.log.read_text(), guarded.keys_file.read_text()]
    for process in [psutil.Process(guarded.server.process.pid), *guarded.server.children()]:
        texts += [" ".join(process.cmdline()), str(process.environ())]
    assert "alice" in guarded.server.screen()
    assert [found for text in texts if (found := mentions(text, [guarded.key, wrong]))] == []
