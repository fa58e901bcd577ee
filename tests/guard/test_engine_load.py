"""The real server under load and failure: stopped, killed, kept waiting, left alone by its clients."""

import asyncio
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from tests.guard.engine_clients import Told, ask, begun, get
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.anyio]
CLIENTS, TOKENS = 50, 24


async def client(session: aiohttp.ClientSession, url: str, seen: list[Told]) -> None:
    """Ask again and again, until told to go elsewhere."""
    while not seen or seen[-1].status == 200:
        told = Told()
        seen.append(told)
        await ask(session, url, TOKENS, told)


async def test_sigterm_under_load_breaks_no_accepted_stream(tmp_path: Path) -> None:
    server = ServerProcess(["--drain-timeout", "60", "--log-format", "none"], tmp_path).wait_ready()
    seen: list[list[Told]] = [[] for _ in range(CLIENTS)]
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            load = [asyncio.create_task(client(session, server.url, told)) for told in seen]
            await asyncio.sleep(10)
            server.process.send_signal(signal.SIGTERM)
            at = time.monotonic()
            await asyncio.sleep(0.2)
            ready = await asyncio.to_thread(get, f"{server.url}/ready")
            assert ready[0] == 503 and "draining" in ready[1]
            await asyncio.gather(*load)
        answers = [told for client_seen in seen for told in client_seen]
        accepted = [told for told in answers if told.status == 200]
        refused = [told for told in answers if told.status != 200]
        assert all(told.done and not told.broken for told in accepted), [t for t in accepted if not t.done][:3]
        assert sum(told.at > at for told in accepted) >= CLIENTS / 2
        assert len(refused) == CLIENTS
        for told in refused:
            assert told.status == 503 and told.headers["retry-after"] == "1" and told.headers["connection"] == "close"
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        assert server.left_behind() == []
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["EngineCore", "Worker"])
async def test_a_killed_engine_is_told_to_every_stream(tmp_path: Path, name: str) -> None:
    server = ServerProcess(["--log-format", "none"], tmp_path).wait_ready()
    streams = [Told() for _ in range(8)]
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            asking = [asyncio.create_task(ask(session, server.url, 4000, told)) for told in streams]
            await begun(streams)
            server.child(name).kill()
            killed = time.monotonic()
            await asyncio.gather(*asking)
        assert max(told.at for told in streams) - killed < 10
        assert all(told.explained for told in streams), [(told.body[-400:], told.broken) for told in streams]
        assert not any(b"Traceback" in told.body for told in streams)
        while (ready := await asyncio.to_thread(get, f"{server.url}/ready"))[0]:
            assert ready[0] == 503
        assert await asyncio.to_thread(server.process.wait, 30) == 4
        assert "The engine died" in server.screen() and "Traceback" not in server.screen()
        assert server.left_behind() == []
    finally:
        server.stop()
