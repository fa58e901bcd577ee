"""/status: who sees what, and whether the figures are right."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.errors import ConfigError
from serving.guard.load import Load, quantile
from serving.guard.served import VARIABLE, Served
from serving.guard.stack import Guard
from serving.keys import Key, add, digest
from tests.guard.conftest import Growth, make_guard
from tests.guard.conftest import counted as counted
from tests.guard.stub import CHAT, Call, Clock, Engine, chat
from tests.page.scripted import SERVED
from tests.server_process import dry_run

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


SCOPES = (("inference",), ("metrics",), ("inference", "metrics"), ("admin",))


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """A key for each set of scopes, by their names; one request a minute each."""
    keys = [Key("-".join(scopes), digest(""), scopes=scopes, requests_per_minute=1) for scopes in SCOPES]
    return {key.name: add(tmp_path / "keys.json", key) for key in keys}


@pytest.fixture
def with_keys(secrets: dict[str, str], tmp_path: Path) -> Guard:
    return make_guard(Engine(), Clock(time.time()), keys_file=str(tmp_path / "keys.json"))


async def status(guard: Guard, secret: str = "", **options: Any) -> Call:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return await Call(guard, "GET", "/status", headers=headers, **options).start().done()


async def test_it_tells_what_is_served() -> None:
    clock = Clock()
    guard = Guard(Engine(), make_guard(Engine()).context.settings, clock=clock, served=SERVED)
    clock.now += 90
    call = await status(guard)
    facts = json.loads(call.content)
    assert (call.status, call.answer["cache-control"]) == (200, "no-store")
    assert (facts["model"], facts["context"], facts["precision"], facts["chat"]) == ("stub", None, "float16", True)
    assert facts["sampling"] == {"temperature": 0.7, "top_p": 0.95, "max_tokens": 256}
    assert facts["control_tokens"] == ["<s>", "</s>", "<unk>"]
    assert facts["uptime_seconds"] == 90
    load = {"running", "waiting", "kv_cache_usage", "tokens_per_second", "first_token_seconds", "rejections"}
    assert set(facts["load"]) == load


@pytest.mark.parametrize(
    ("key", "answer", "sees_load"),
    [
        ("", 401, None),
        ("wrong", 401, None),
        ("metrics", 403, None),
        ("inference", 200, False),
        ("inference-metrics", 200, True),
        ("admin", 200, True),
    ],
)
async def test_the_load_is_for_keys_that_may_read_metrics(
    with_keys: Guard, secrets: dict[str, str], key: str, answer: int, sees_load: bool | None
) -> None:
    call = await status(with_keys, secrets.get(key, key))
    assert call.status == answer
    if answer == 200:
        facts = json.loads(call.content)
        assert facts["model"] == "stub"
        assert (facts["load"] is not None) is sees_load


async def test_without_keys_only_this_machine_is_answered() -> None:
    assert (await status(make_guard(Engine()), client="10.0.0.9")).status == 401
    assert (await status(make_guard(Engine(), allow_anonymous=True), client="10.0.0.9")).status == 200


async def test_asking_costs_nobody_a_request(with_keys: Guard, secrets: dict[str, str]) -> None:
    for _ in range(5):
        assert (await status(with_keys, secrets["inference"])).status == 200
    headers = {"authorization": f"Bearer {secrets['inference']}"}
    asked = [(await Call(with_keys, body=chat(), headers=headers).start().done()).status for _ in range(2)]
    assert asked == [200, 429]


async def test_while_the_server_drains_it_says_so() -> None:
    guard = make_guard(Engine())
    assert json.loads((await status(guard)).content)["draining"] is False
    guard.context.drain.announce()
    assert json.loads((await status(guard)).content)["draining"] is True
    guard.context.drain.begin()
    call = await status(guard)
    assert (call.status, call.error["code"]) == (503, "draining")


async def test_refusals_are_counted_by_reason(counted: Growth) -> None:
    guard = make_guard(Engine(), clock := Clock())
    before = json.loads((await status(guard)).content)["load"]["rejections"].get("invalid_json", 0)
    await Call(guard, path=CHAT, body=b"{").start().done()
    clock.now += 2
    assert json.loads((await status(guard)).content)["load"]["rejections"]["invalid_json"] == before + 1


async def test_everybody_gets_the_same_look_for_a_second() -> None:
    guard = make_guard(Engine(), clock := Clock())
    looks = []
    for _ in range(3):
        looks.append(json.loads((await status(guard)).content)["load"]["first_token_seconds"]["window"])
        clock.now += 0.6
    assert looks == [0.0, 0.0, 1.2]


class Metrics:
    """The metrics that are read, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common: Any = {"documentation": "-", "registry": self.registry}
        self.running = Gauge("vllm:num_requests_running", labelnames=["engine"], **common)
        self.waiting = Gauge("vllm:num_requests_waiting", labelnames=["engine"], **common)
        self.cache = Gauge("vllm:kv_cache_usage_perc", labelnames=["engine"], **common)
        self.tokens = Counter("vllm:generation_tokens", labelnames=["engine"], **common)
        self.delays = Histogram(
            "xuanyuan_first_token_seconds", labelnames=["route"], buckets=(0.1, 0.5, 1, 5), **common
        )
        self.refused = Counter("xuanyuan_rejections", labelnames=["reason"], **common)


def test_gauges_of_several_engines_are_put_together() -> None:
    metrics = Metrics()
    for engine, running, cache in (("0", 3, 0.2), ("1", 4, 0.4)):
        metrics.running.labels(engine).set(running)
        metrics.waiting.labels(engine).set(1)
        metrics.cache.labels(engine).set(cache)
    load = Load(0.0, metrics.registry)
    load.look(1.0)
    facts = load.facts()
    assert (facts["running"], facts["waiting"]) == (7, 2)
    assert facts["kv_cache_usage"] == pytest.approx(0.3)


def test_tokens_a_second_are_those_since_the_look_before() -> None:
    metrics = Metrics()
    load = Load(0.0, metrics.registry)
    speeds = []
    for now, grown in ((10, 100), (12, 60), (14, 0), (15, 50)):
        metrics.tokens.labels("0").inc(grown)
        load.look(now)
        speeds.append(load.facts()["tokens_per_second"])
    # At the last look the one before is too young: the window of two seconds begins with the one before that.
    assert speeds == [10.0, 30.0, 0.0, pytest.approx(16.7)]


def test_first_tokens_of_long_ago_are_forgotten() -> None:
    metrics = Metrics()
    load = Load(0.0, metrics.registry)
    metrics.delays.labels("/v1/chat/completions").observe(4)
    load.look(10)
    assert load.facts()["first_token_seconds"] == {"p50": 3.0, "p95": 4.8, "window": 10}
    for now in range(20, 700, 10):
        load.look(now)
    assert load.facts()["first_token_seconds"] == {"p50": None, "p95": None, "window": 300}
    assert len(load.looks) < 40
    metrics.delays.labels("/v1/completions").observe(0.3)
    load.look(700)
    assert load.facts()["first_token_seconds"]["p50"] == pytest.approx(0.3)


def test_clients_that_left_were_not_refused() -> None:
    metrics = Metrics()
    for reason in ("client_gone", "engine_error", "overloaded", "overloaded"):
        metrics.refused.labels(reason).inc()
    load = Load(0.0, metrics.registry)
    load.look(1.0)
    assert load.facts()["rejections"] == {"overloaded": 2}


@pytest.mark.parametrize(
    ("share", "cumulative", "expected"),
    [
        (0.5, [], None),
        (0.5, [(1.0, 0), (float("inf"), 0)], None),
        (0.5, [(1.0, 10), (2.0, 10), (float("inf"), 10)], 0.5),
        (0.5, [(1.0, 0), (2.0, 10), (float("inf"), 10)], 1.5),
        (0.95, [(1.0, 90), (2.0, 100), (float("inf"), 100)], 1.5),
        (0.95, [(1.0, 10), (float("inf"), 100)], 1.0),
    ],
)
def test_quantiles(share: float, cumulative: Sequence[tuple[float, int]], expected: float | None) -> None:
    assert quantile(share, cumulative) == expected


def test_several_server_processes_add_up(tmp_path: Path) -> None:
    count = "from serving.guard import metrics as m; m.REJECTIONS.labels('overloaded').inc()"
    read = "import json; from serving.guard.load import Load; l = Load(0.0); l.look(1.0); print(json.dumps(l.facts()))"
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for code in (count, count):
        subprocess.run([sys.executable, "-c", code], env=environ, check=True)
    done = subprocess.run([sys.executable, "-c", read], env=environ, check=True, capture_output=True)
    assert json.loads(done.stdout)["rejections"] == {"overloaded": 2}


def test_what_the_launcher_says_reaches_the_guard() -> None:
    assert Served.from_environ(SERVED.to_environ()) == SERVED
    assert Served.from_environ({}) == Served()
    with pytest.raises(ConfigError, match=VARIABLE):
        Served.from_environ({VARIABLE: "{"})


def test_the_launcher_says_what_the_checkpoint_is() -> None:
    env: Any = dry_run()["env"]
    served = Served.from_environ(env)
    assert (served.precision, served.chat) == ("bfloat16", True)
    assert served.sampling == {"temperature": 0.2, "top_p": 0.9}
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(served.control_tokens)
