"""How much each key may ask."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from serving.errors import ConfigError
from serving.guard.quotas import STORAGE_PAUSE
from serving.keys import Key, add, digest
from tests.guard.conftest import Growth, Guarded, make_guard
from tests.guard.stub import EVENTS, Call, Clock, Engine, chat

pytestmark = pytest.mark.anyio
NOBODY = "redis://127.0.0.1:1"  # nothing listens there


def limited_key(name: str, limits: dict[str, int]) -> Key:
    """A key with these limits of its own."""
    return replace(Key(name, digest("")), **limits)  # type: ignore[arg-type]


class Limited:
    """A guard whose keys have limits, and how often each was answered how."""

    def __init__(self, guarded: Guarded, folder: Path, clock: Clock, **limits: int) -> None:
        self.secrets = {name: add(folder / "keys", limited_key(name, limits)) for name in ("alice", "bob")}
        self.guard = guarded(keys_file=str(folder / "keys"))
        # `limits` counts by the time of day.
        clock.now = time.time()

    async def ask(self, name: str = "alice", **fields: object) -> Call:
        headers = {"x-api-key": self.secrets[name]}
        return await Call(self.guard, body=chat(**fields), headers=headers).start().done()


async def test_requests_a_minute(guarded: Guarded, tmp_path: Path, clock: Clock) -> None:
    limited = Limited(guarded, tmp_path, clock, requests_per_minute=3)
    calls = [await limited.ask() for _ in range(5)]
    assert [call.status for call in calls] == [200, 200, 200, 429, 429]
    assert [call.answer["x-ratelimit-remaining-requests"] for call in calls] == ["2", "1", "0", "0", "0"]
    assert {call.answer["x-ratelimit-limit-requests"] for call in calls} == {"3"}
    assert calls[3].error["code"] == "rate_limit_exceeded"
    assert 1 <= int(calls[3].answer["retry-after"]) <= 60
    assert calls[3].answer["x-ratelimit-reset-requests"].endswith("s")
    assert (await limited.ask("bob")).status == 200


async def test_the_next_minute_begins_anew(
    guarded: Guarded, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Limited(guarded, tmp_path, clock, requests_per_minute=1)
    assert [(await limited.ask()).status for _ in range(2)] == [200, 429]
    clock.now += 61
    monkeypatch.setattr(time, "time", clock)
    assert [(await limited.ask()).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("step", [-86400, 86400])
async def test_a_clock_that_is_set_does_not_lock_a_key_out(
    guarded: Guarded, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    limited = Limited(guarded, tmp_path, clock, requests_per_minute=1)
    assert [(await limited.ask()).status for _ in range(2)] == [200, 429]
    clock.now += step
    monkeypatch.setattr(time, "time", clock)
    calls = [await limited.ask() for _ in range(2)]
    assert 200 in [call.status for call in calls]
    assert all(int(call.answer.get("retry-after", 0)) <= 60 for call in calls)


@pytest.mark.parametrize("stream", [True, False])
async def test_tokens_a_minute_are_the_engines(guarded: Guarded, tmp_path: Path, clock: Clock, stream: bool) -> None:
    limited = Limited(guarded, tmp_path, clock, tokens_per_minute=20)
    calls = [await limited.ask(stream=stream) for _ in range(3)]
    assert [call.status for call in calls] == [200, 200, 429]
    assert [call.answer["x-ratelimit-remaining-tokens"] for call in calls] == ["20", "8", "0"]
    assert calls[2].error["message"].startswith("This key may use 20 tokens a minute.")
    assert (await limited.ask("bob")).status == 200


async def test_an_overshoot_is_charged_in_full(guarded: Guarded, engine: Engine, tmp_path: Path, clock: Clock) -> None:
    engine.events = [b'data: {"usage":{"prompt_tokens":5,"completion_tokens":100000}}\n\n', *EVENTS[-1:]]
    limited = Limited(guarded, tmp_path, clock, tokens_per_minute=10)
    assert [(await limited.ask(stream=True)).status for _ in range(2)] == [200, 429]


async def test_a_client_that_leaves_pays_for_what_it_saw(
    guarded: Guarded, engine: Engine, tmp_path: Path, clock: Clock
) -> None:
    engine.events, engine.gate = EVENTS[:2] * 10, asyncio.Semaphore(10)
    limited = Limited(guarded, tmp_path, clock, tokens_per_minute=10)
    call = Call(limited.guard, body=chat(stream=True), headers={"x-api-key": limited.secrets["alice"]}).start()
    await call.until(11)
    call.leave()
    await call.done()
    assert (await limited.ask()).status == 429


async def test_requests_at_a_time(guarded: Guarded, engine: Engine, tmp_path: Path, clock: Clock) -> None:
    engine.gate = asyncio.Semaphore(0)
    limited = Limited(guarded, tmp_path, clock, max_concurrent_requests=2)
    headers = {"x-api-key": limited.secrets["alice"]}
    calls = [Call(limited.guard, body=chat(), headers=headers).start() for _ in range(2)]
    while len(engine.bodies) < 2:
        await asyncio.sleep(0)
    third = await limited.ask()
    assert (third.status, third.answer["retry-after"]) == (429, "1")
    for _ in range(3):
        engine.gate.release()
    for call in calls:
        await call.done()
    assert (await limited.ask()).status == 200


async def test_the_servers_limits_hold_for_keys_without_their_own(engine: Engine, tmp_path: Path) -> None:
    own = add(tmp_path / "keys", Key("own", digest(""), requests_per_minute=3))
    free = add(tmp_path / "keys", Key("free", digest(""), requests_per_minute=0))
    common = add(tmp_path / "keys", Key("common", digest("")))
    guard = make_guard(engine, Clock(time.time()), keys_file=str(tmp_path / "keys"), requests_per_minute=1)
    for secret, passed in ((own, 3), (free, 5), (common, 1)):
        calls = [await Call(guard, body=chat(), headers={"x-api-key": secret}).start().done() for _ in range(5)]
        assert sum(call.status == 200 for call in calls) == passed


async def test_public_routes_are_not_counted(guarded: Guarded) -> None:
    guard = guarded(requests_per_minute=1)
    assert [(await Call(guard, "GET", "/health").start().done()).status for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize(("failure", "status"), [("open", 200), ("closed", 503)])
async def test_redis_gone(
    guarded: Guarded, clock: Clock, counted: Growth, capsys: pytest.CaptureFixture[str], failure: str, status: int
) -> None:
    guard = guarded(rate_limit_storage=NOBODY, rate_limit_failure=failure, requests_per_minute=5, tokens_per_minute=5)
    counted("xuanyuan_rate_limit_failures_total")
    calls = [await Call(guard, body=chat()).start().done() for _ in range(3)]
    assert [call.status for call in calls] == [status] * 3
    if status == 503:
        assert calls[0].error["code"] == "rate_limits_unavailable"
        assert calls[0].answer["retry-after"] == f"{STORAGE_PAUSE:.0f}"
    # It is asked once, then left alone for a while.
    assert counted("xuanyuan_rate_limit_failures_total") == 1
    clock.now += STORAGE_PAUSE
    await Call(guard, body=chat()).start().done()
    assert counted("xuanyuan_rate_limit_failures_total") == 2
    assert capsys.readouterr().err.count("does not answer: ConnectionError") == 2


async def test_a_key_without_rates_does_not_need_redis(guarded: Guarded) -> None:
    guard = guarded(rate_limit_storage=NOBODY, rate_limit_failure="closed")
    assert (await Call(guard, body=chat()).start().done()).status == 200


@pytest.mark.parametrize("url", ["", "nonsense", "nonsense://user:secret@host", "redis", "postgres://user:secret@host"])
async def test_a_storage_that_is_none_is_refused_without_showing_its_password(guarded: Guarded, url: str) -> None:
    with pytest.raises(ConfigError, match="expected memory:// or redis://HOST:PORT") as raised:
        guarded(rate_limit_storage=url)
    assert "secret" not in str(raised.value)
