"""Parts die under load: only what they had in hand fails, nothing hangs, and they come back by themselves.

All are in `make test-ray`. RAY_FAULTS_TABLE names a file for the
rows of docs/ray.md.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.ray.load import BROKEN, GOOD, HUNG, TOLD, WRONG, Load
from tests.ray.ray_process import CONTROLLER, PROXY, ROUTER, RayProcess, small_args

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
CLIENTS = 20
MODEL = "tiny"
# A part that is killed leaves so many seconds in which a request may still be sent to it.
NOTICED = 3.0
BACK_SECONDS = 240.0
DOOR = ("haproxy", "proxy")
TABLE = os.environ.get("RAY_FAULTS_TABLE")


@pytest.fixture(scope="module")
def server(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayProcess]:
    """Two replicas of a small checkpoint, half a core each."""
    args = small_args(small_checkpoint, name=MODEL)
    args += ["--replicas", "2", "--replica-cpus", "0.5", "--log-format", "none", "--kv-cache-memory-bytes", "100000000"]
    server = RayProcess(args, tmp_path_factory.mktemp("ray_faults"))
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def victims(server: RayProcess, part: str) -> list[psutil.Process]:
    """The process to kill, and those that are part of it."""
    if part in ("worker", "engine core"):
        title = {"worker": "VLLM::Worker", "engine core": "VLLM::EngineCore"}[part]
        return server.titled(title)[:1]
    if part == "replica":
        return server.replicas()[:1]
    return {
        "proxy": server.titled(PROXY),
        "haproxy": server.titled("haproxy.safe.cfg"),
        "controller": server.titled(CONTROLLER),
        "router": server.titled(ROUTER),
    }[part]


async def under_fire(server: RayProcess, part: str) -> tuple[Load, float, float]:
    """The load around a part's death, when it was killed, and after how many seconds all was well again."""
    load = Load(server.url, MODEL, clients=CLIENTS)
    await load.learn()
    async with load.running():
        await asyncio.sleep(5)
        before = await asyncio.to_thread(server.servers_up)
        killed_at = time.monotonic()
        for victim in victims(server, part):
            victim.kill()
        back = await asyncio.to_thread(until_well, server, part, before, killed_at)
        await asyncio.sleep(3)
    return load, killed_at, back


def until_well(server: RayProcess, part: str, before: list[str], killed_at: float) -> float:
    """Seconds from the kill until two replicas are in service, another in the place of one that died."""
    deadline = killed_at + BACK_SECONDS
    while time.monotonic() < deadline:
        up = server.servers_up()
        replaced = part not in ("worker", "engine core", "replica") or set(up) != set(before)
        alive = all(server.titled(title) for title in (PROXY, CONTROLLER, ROUTER))
        if len(up) == 2 and replaced and alive and time.monotonic() > killed_at + 1:
            return time.monotonic() - killed_at
        time.sleep(0.1)
    raise AssertionError(f"not back after {BACK_SECONDS:g} s: {server.servers_up()}\n{server.screen()}")


def check(server: RayProcess, part: str) -> None:
    load, killed_at, back = asyncio.run(under_fire(server, part))
    counts = load.count()
    # The proxy is this machine's only door: until it is back nobody can be let in, and each is told at once.
    late = load.count(since=killed_at + (back if part in DOOR else NOTICED))
    row = {
        "part": part, "requests": sum(counts.values()), "failed": dict(load.failures()), "back_seconds": round(back, 1),
        "failed_later": sum(late[kind] for kind in (WRONG, TOLD, BROKEN, HUNG)),
        "longest": round(max(outcome.ended - outcome.began for outcome in load.outcomes), 1),
    }  # fmt: skip
    print(json.dumps(row))
    if TABLE:
        with Path(TABLE).open("a") as table:
            table.write(json.dumps(row) + "\n")
    assert counts[WRONG] == counts[HUNG] == 0, row
    assert row["failed_later"] == 0, row
    if part not in DOOR:
        assert counts[TOLD] + counts[BROKEN] <= CLIENTS, row
    assert counts[GOOD] > CLIENTS, row


@pytest.mark.ray
def test_a_killed_engine_core(server: RayProcess) -> None:
    check(server, "engine core")


@pytest.mark.ray
@pytest.mark.parametrize("part", ["worker", "replica", "router", "haproxy", "proxy", "controller"])
def test_a_killed_part(server: RayProcess, part: str) -> None:
    check(server, part)
