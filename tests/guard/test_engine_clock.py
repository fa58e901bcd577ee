"""The real server while its machine's clock is set: an hour forwards, an hour back, as by hand or by a time server.

A small library, preloaded into every process of the server, moves the time of day; see set_clock.c. (libfaketime 0.9.10
is not used: with it, Python's sleep fails.)
"""

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from serving.keys import SCOPES, Key, add, digest
from tests.guard.engine_clients import Told, ask, begun, get, wait_running
from tests.server_process import ServerProcess

SOURCE = Path(__file__).with_name("set_clock.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.live,
    pytest.mark.engine,
    pytest.mark.anyio,
    pytest.mark.skipif(COMPILER is None, reason="no C compiler here"),
]
HOUR = 3600
REQUEST_TIMEOUT = 15.0
LIMIT = 3  # requests a minute of one of the keys


class Machine:
    """A server with a clock of its own, and keys: one without limits, one with, one that expires in half an hour."""

    def __init__(self, folder: Path) -> None:
        self.clock = folder / "clock"
        self.step(0)
        keys, soon = folder / "keys.json", datetime.now(UTC) + timedelta(minutes=30)
        key = Key("free", digest(""), scopes=SCOPES)
        self.free = add(keys, key)
        self.limited = add(keys, replace(key, name="limited", requests_per_minute=LIMIT))
        self.expiring = add(keys, replace(key, name="expiring", expires=soon.isoformat()))
        library = folder / "set_clock.so"
        subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        env = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_STEP": str(self.clock)}
        args = ["--keys-file", str(keys), "--request-timeout", str(REQUEST_TIMEOUT), "--ready-probe-seconds", "2"]
        self.server = ServerProcess(args, folder, env)

    def step(self, seconds: int) -> None:
        """Set the clock to so many seconds from the true time."""
        new = self.clock.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self.clock)

    async def ask(self, key: str, tokens: int = 4, told: Told | None = None) -> Told:
        async with aiohttp.ClientSession(headers={"x-api-key": key}) as session:
            return await ask(session, self.server.url, tokens, told)

    def times_of_lines(self) -> list[float]:
        """Seconds from the true time to that of each access line."""
        shown = re.findall(r"^(\S+) POST ", self.server.screen(), re.MULTILINE)
        return [datetime.fromisoformat(text).timestamp() - time.time() for text in shown]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("clock"))
    try:
        machine.server.wait_ready()
        yield machine
    finally:
        machine.step(0)
        assert machine.server.stop() == 0
        assert "Traceback" not in machine.server.screen() + machine.server.log.read_text()


async def test_the_clock_of_the_server_is_the_tests(machine: Machine) -> None:
    for step in (HOUR, -HOUR, 0):
        machine.step(step)
        before = len(machine.times_of_lines())
        await machine.ask(machine.free)
        # The line comes after the answer's last byte.
        async with asyncio.timeout(10):
            while len(machine.times_of_lines()) == before:
                await asyncio.sleep(0.05)
        assert abs(machine.times_of_lines()[-1] - step) < 60


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_streams_in_flight_run_on_and_new_ones_are_taken(machine: Machine, step: int) -> None:
    machine.step(0)
    streams = [Told() for _ in range(4)]
    asking = [asyncio.create_task(machine.ask(machine.free, 40, told)) for told in streams]
    await begun(streams)
    assert not any(told.done for told in streams)
    machine.step(step)
    new = await machine.ask(machine.free)
    await asyncio.gather(*asking)
    assert all(told.status == 200 and told.done for told in [*streams, new]), [told.body[-200:] for told in streams]
    machine.step(0)
    assert (await machine.ask(machine.free)).done


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_deadline_is_neither_sooner_nor_later(machine: Machine, step: int) -> None:
    machine.step(0)
    told, started = Told(), time.monotonic()
    asking = asyncio.create_task(machine.ask(machine.free, 8000, told))
    await begun([told])
    machine.step(step)
    await asking
    assert b"request_timeout" in told.body
    assert REQUEST_TIMEOUT - 0.5 < told.at - started < REQUEST_TIMEOUT + 3
    await wait_running(machine.server.url, machine.free, 0, 2)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_a_key_with_a_rate_is_not_locked_out(machine: Machine, step: int) -> None:
    """Its minute may begin anew at a step; it never waits for longer than a minute, which is what it is told."""
    machine.step(0)
    told = [await machine.ask(machine.limited) for _ in range(LIMIT + 1)]
    assert told[-1].status == 429 and 1 <= int(told[-1].headers["retry-after"]) <= 60
    machine.step(step)
    told = [await machine.ask(machine.limited) for _ in range(2)]
    assert told[-1].status == 200
    told += [await machine.ask(machine.limited) for _ in range(LIMIT)]
    assert told[-1].status == 429, "it is still limited"
    for one in told:
        assert float(one.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
        assert int(one.headers.get("retry-after", 1)) <= 60
    machine.step(0)
    assert 200 in [(await machine.ask(machine.limited)).status for _ in range(2)]


async def test_a_key_expires_by_the_time_of_day(machine: Machine) -> None:
    for step, status in ((0, 200), (HOUR, 401), (0, 200), (-HOUR, 200)):
        machine.step(step)
        told = await machine.ask(machine.expiring)
        assert told.status == status, (step, told.body)
        assert status == 200 or b"expired_api_key" in told.body


@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_it_stays_ready_and_goes_on_probing(machine: Machine, step: int) -> None:
    machine.step(step)
    for _ in range(6):
        assert (await asyncio.to_thread(get, f"{machine.server.url}/ready"))[0] == 200
        await asyncio.sleep(1)
    machine.step(0)
