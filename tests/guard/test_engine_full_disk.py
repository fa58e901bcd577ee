"""The real server with no room left for its logs: it answers, says so once, and ends as it should."""

import asyncio
import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.guard.engine_clients import Told, ask, completion, get
from tests.server_process import ServerProcess

pytestmark = [
    pytest.mark.live,
    pytest.mark.engine,
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk"),
]
REQUESTS = 4
SAYS = {"console": "The engine's log cannot be written", "engine log": "access lines cannot be written"}
ACCESS_LINE = re.compile(r" POST /v1/completions 200 ")


class SmallDisk:
    """A disk of 256 KiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)

    def fill(self) -> None:
        """Leave no block, and none of the files here an end of its last one to grow into."""
        write_until_full(self.filler, bytes(4096))
        for path in self.folder.iterdir():
            write_until_full(path, b"\n")

    def free(self) -> None:
        """Make room again."""
        self.filler.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def write_until_full(path: Path, piece: bytes) -> None:
    """Append `piece` until no more is taken."""
    with path.open("ab", buffering=0) as opened:
        try:
            while True:
                opened.write(piece)
        except OSError as error:
            assert error.errno == errno.ENOSPC


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[tuple[SmallDisk, SmallDisk]]:
    """One for what is shown, one for the engine's log."""
    try:
        found = SmallDisk(tmp_path / "screen"), SmallDisk(tmp_path / "log")
    except subprocess.CalledProcessError:
        pytest.skip("no disk can be mounted here")
    yield found
    for disk in found:
        disk.unmount()


async def all_answered(server: ServerProcess) -> None:
    """Streams, whole answers and a refusal come as ever."""
    async with aiohttp.ClientSession() as session:
        told = await asyncio.gather(*(ask(session, server.url, 8) for _ in range(REQUESTS)))
        assert all(one.status == 200 and one.done for one in told)
        async with session.post(f"{server.url}/v1/completions", json=completion(4, stream=False)) as whole:
            assert (await whole.json())["choices"][0]["text"]
        async with session.post(f"{server.url}/v1/completions", data=b"{") as refused:
            assert refused.status == 400 and (await refused.json())["error"]["code"] == "invalid_json"
        # What the engine's own app refuses it logs.
        async with session.post(f"{server.url}/v1/completions", json={**completion(1), "model": "no"}) as unknown:
            assert unknown.status == 404


def lost_lines(server: ServerProcess) -> float:
    """Access lines that could not be written."""
    (found,) = re.findall(r"^xuanyuan_log_failures_total ([\d.]+)$", get(f"{server.url}/metrics")[1], re.MULTILINE)
    return float(found)


async def busy_until(server: ServerProcess, happened: Callable[[], bool]) -> None:
    """Ask until something happened that does in seconds: the engine logs its speed every ten."""
    async with asyncio.timeout(90):
        while not happened():
            await all_answered(server)
            await asyncio.sleep(0.5)


async def test_a_full_disk_for_logs_costs_no_answer(disks: tuple[SmallDisk, SmallDisk], tmp_path: Path) -> None:
    screen, log = disks
    server = ServerProcess(["--engine-log", str(log.folder / "engine.log")], screen.folder)
    server.log = log.folder / "engine.log"
    try:
        server.wait_ready()
        await all_answered(server)
        assert lost_lines(server) == 0 and ACCESS_LINE.search(server.screen())

        log.fill()
        await busy_until(server, lambda: SAYS["console"] in server.screen())
        await asyncio.sleep(11)
        await all_answered(server)
        assert server.screen().count(SAYS["console"]) == 1 and "No space left on device" in server.screen()
        assert lost_lines(server) == 0
        log.free()

        screen.fill()
        await busy_until(server, lambda: lost_lines(server) > REQUESTS)
        assert server.log.read_text().count(SAYS["engine log"]) == 1
        screen.free()
        before = len(ACCESS_LINE.findall(server.screen()))
        await all_answered(server)
        assert len(ACCESS_LINE.findall(server.screen())) >= before + REQUESTS

        screen.fill()
        log.fill()
        lost = lost_lines(server)
        await busy_until(server, lambda: lost_lines(server) > lost + REQUESTS)
        assert get(f"{server.url}/ready")[0] == 200
        async with aiohttp.ClientSession() as session:
            last = Told()
            asking = asyncio.create_task(ask(session, server.url, 100, last))
            while not last.body:
                await asyncio.sleep(0.01)
            server.process.terminate()
            await asking
            assert last.done
        assert await asyncio.to_thread(server.process.wait, 30) == 0
        assert server.left_behind() == []
        assert "Traceback" not in server.screen() + server.log.read_text()
    finally:
        server.stop()
