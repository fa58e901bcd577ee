"""Two clocks: the monotonic one for all that takes time, the time of day for dates. Setting the latter does no harm."""

import ast
import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving import guard as package
from serving.guard.drain import Drain
from serving.guard.readiness import Readiness
from serving.guard.settings import GuardSettings
from serving.guard.stack import Guard
from serving.keys import Key, add, digest, revoke
from tests.guard.conftest import layer_of
from tests.guard.stub import Call, Clock, Engine, chat

pytestmark = pytest.mark.anyio
HOUR = 3600.0
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clocks:
    """Both clocks, and a guard that reads them. `limits` reads the time of day by itself, so that is set there too."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.monotonic, self.wall = Clock(500.0), Clock(NOON.timestamp())
        monkeypatch.setattr(time, "time", self.wall)

    def guard(self, **settings: object) -> Guard:
        found = GuardSettings(**{"log_format": "none", **settings})  # type: ignore[arg-type]
        return Guard(self.engine, found, clock=self.monotonic, wall=self.wall, drain=Drain())


@pytest.fixture
def clocks(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    yield Clocks(engine, monkeypatch)


async def ask(guard: Guard, secret: str = "", **fields: object) -> Call:
    return await Call(guard, body=chat(**fields), headers={"x-api-key": secret} if secret else {}).start().done()


def test_only_the_context_names_a_clock() -> None:
    """So that every layer takes the time from there, where a test can set it. Event loops go by the monotonic one."""
    named = set()
    for file in Path(str(package.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            module = node.module if isinstance(node, ast.ImportFrom) else None
            called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if "time" in (*names, module) or called in ("now", "utcnow", "today"):
                named.add(file.name)
    assert named == {"context.py", "stack.py"}


def test_the_time_of_day_is_for_dates_alone() -> None:
    """When a key expires, what the access line says, and windows of the storage, which has nothing else."""
    files = Path(str(package.__file__)).parent.glob("*.py")
    readers = {file.name for file in files if "wall" in file.read_text()}
    assert readers == {"context.py", "stack.py", "access_log.py", "authentication.py", "quotas.py"}


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_deadlines(clocks: Clocks, step: float) -> None:
    clocks.engine.gate = asyncio.Semaphore(1)
    guard = clocks.guard(request_timeout=0.3, first_token_timeout=0.2)
    call = Call(guard, body=chat(stream=True)).start()
    await call.until(2)
    clocks.wall.now += step
    await asyncio.sleep(0.1)
    assert not call.content.count(b"error")
    await call.done()
    assert call.error["code"] == "request_timeout"


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_slow_bodies(clocks: Clocks, step: float) -> None:
    call = Call(clocks.guard(body_timeout=0.2)).start(send_body=False)
    await asyncio.sleep(0.05)
    clocks.wall.now += step
    await asyncio.sleep(0.05)
    assert not call.sent
    await call.done()
    assert call.error["code"] == "body_too_slow"


async def test_a_key_expires_by_the_time_of_day(clocks: Clocks, tmp_path: Path) -> None:
    expires = datetime.fromtimestamp(NOON.timestamp() + HOUR / 2, UTC).isoformat()
    secret = add(tmp_path / "keys", replace(Key("alice", digest("")), expires=expires))
    guard = clocks.guard(keys_file=str(tmp_path / "keys"))
    for wall, monotonic, status in ((0, 0, 200), (0, 9 * HOUR, 200), (HOUR, 0, 401), (-HOUR, 0, 200)):
        clocks.wall.now, clocks.monotonic.now = NOON.timestamp() + wall, clocks.monotonic.now + monotonic
        assert (await ask(guard, secret)).status == status


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_a_key_is_revoked_in_two_seconds_whatever_the_time_of_day(
    clocks: Clocks, tmp_path: Path, step: float
) -> None:
    secret = add(tmp_path / "keys", Key("alice", digest("")))
    guard = clocks.guard(keys_file=str(tmp_path / "keys"))
    clocks.wall.now += step
    assert (await ask(guard, secret)).status == 200
    revoke(tmp_path / "keys", "alice")
    clocks.monotonic.now += 2
    assert (await ask(guard, secret)).status == 401


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_retry_after_of_the_queue(clocks: Clocks, step: float) -> None:
    """It comes from how fast answers were done, by the monotonic clock."""
    clocks.engine.gate = asyncio.Semaphore(0)
    guard = clocks.guard(max_num_seqs=1, max_queue_seconds=2)
    calls = [Call(guard, body=chat()).start() for _ in range(6)]
    for call in calls:
        await asyncio.sleep(0)
        while not clocks.engine.bodies:
            await asyncio.sleep(0)
        clocks.wall.now += step
        clocks.monotonic.now += 1
        clocks.engine.gate.release()
        await call.done()
        if call is calls[4]:
            break
    waiting = [Call(guard, body=chat()).start() for _ in range(2)]
    await asyncio.sleep(0.01)
    refused = await ask(guard)
    assert (refused.status, refused.answer["retry-after"]) == (503, "1")
    for _ in range(3):
        clocks.engine.gate.release()
    for call in [*calls, *waiting]:
        await call.done()


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_probes_of_readiness(clocks: Clocks, step: float) -> None:
    guard = clocks.guard(ready_probe_seconds=30)

    async def ready() -> int:
        found = (await Call(guard, "GET", "/ready").start().done()).status
        if probing := layer_of(guard, Readiness).probing:
            await probing
        return found

    await ready()
    assert (await ready(), len(clocks.engine.bodies)) == (200, 1)
    clocks.wall.now += step
    assert (await ready(), len(clocks.engine.bodies)) == (200, 1)
    clocks.monotonic.now += 31
    assert (await ready(), len(clocks.engine.bodies)) == (200, 2)


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_the_access_line_has_the_new_time_and_the_true_length(
    clocks: Clocks, capsys: pytest.CaptureFixture[str], step: float
) -> None:
    clocks.engine.gate = asyncio.Semaphore(0)
    call = Call(clocks.guard(log_format="json"), body=chat()).start()
    while not clocks.engine.bodies:
        await asyncio.sleep(0)
    clocks.wall.now += step
    clocks.monotonic.now += 2
    clocks.engine.gate.release()
    await call.done()
    line = json.loads(capsys.readouterr().err)
    assert line["total_s"] == 2 and datetime.fromisoformat(line["time"]).timestamp() == clocks.wall.now
