"""Several server processes: metrics that add up, rates that are shared, and the engine's app as it really is."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving.guard.quotas import Quotas
from serving.guard.routes import BLOCKED, ROUTES
from serving.page import PATHS as PAGE
from tests.guard.conftest import layer_of, make_guard
from tests.guard.stub import CHAT, Call, Clock, Engine, chat

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]

WORKER = """
import asyncio, sys
from tests.guard.conftest import layer_of, make_guard
from tests.guard.stub import Call, Engine, chat

async def main():
    guard = make_guard(Engine())
    for _ in range(int(sys.argv[1])):
        await Call(guard, body=chat(stream=True)).start().done()
    guard.context.drain.enter()
    print("done", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""

ENGINE_ROUTES = """
import json
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

args = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", "x", "--middleware", "serving.guard.Guard"])
app = build_app(args, ("generate",), None)
print(json.dumps([app.user_middleware[0].cls.__name__, [route.path for route in app.routes]]))
"""


def python(code: str, *args: str, **environ: str) -> "subprocess.Popen[str]":
    """A Python process that runs this code in the project."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], env=env, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


async def test_metrics_of_two_processes_add_up(tmp_path: Path) -> None:
    workers = [python(WORKER, count, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) for count in ("2", "3")]
    try:
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "done\n"
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(tmp_path))  # type: ignore[no-untyped-call]
        value = registry.get_sample_value
        assert value("xuanyuan_requests_total", {"route": CHAT, "key": "anonymous", "code": "200"}) == 5
        assert value("xuanyuan_tokens_total", {"key": "anonymous", "kind": "prompt"}) == 35
        assert value("xuanyuan_first_token_seconds_count", {"route": CHAT}) == 5
        assert value("xuanyuan_requests_in_flight") == 2
        assert b"\nxuanyuan_draining 0.0\n" in generate_latest(registry)
    finally:
        for worker in workers:
            worker.communicate("")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A Redis of the test's own, and its URL."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


async def test_servers_share_their_rates_in_redis(redis: tuple[str, "subprocess.Popen[bytes]"]) -> None:
    url, process = redis
    clock = Clock(time.time())
    guards = [
        make_guard(Engine(), clock, rate_limit_storage=url, requests_per_minute=3, rate_limit_failure="closed")
        for _ in range(2)
    ]

    async def ask(turn: int) -> Call:
        return await Call(guards[turn % 2], body=chat()).start().done()

    calls = [await ask(turn) for turn in range(5)]
    assert [call.status for call in calls] == [200, 200, 200, 429, 429]
    assert [call.answer["x-ratelimit-remaining-requests"] for call in calls] == ["2", "1", "0", "0", "0"]
    assert 0 < int(calls[3].answer["retry-after"]) <= 60
    process.kill()
    process.wait()
    assert (await ask(0)).error["code"] == "rate_limits_unavailable"
    for guard in guards:
        await layer_of(guard, Quotas).storage.bridge.storage.aclose()


@pytest.mark.parametrize("mode", ["0", "1"])
async def test_every_route_of_the_engines_app_is_classified(mode: str) -> None:
    """Also those that its development mode opens, which is never set: should it be, they stay closed."""
    process = python(ENGINE_ROUTES, VLLM_SERVER_DEV_MODE=mode, VLLM_ALLOW_RUNTIME_LORA_UPDATING=mode)
    outermost, paths = json.loads(process.communicate()[0].splitlines()[-1])
    assert outermost == "Guard"
    unclassified = set(paths) - {route.path for route in ROUTES} - BLOCKED
    assert not unclassified, f"name these in serving/guard/routes.py: {sorted(unclassified)}"
    assert {route.path for route in ROUTES} - set(paths) == {"/ready", "/status", *PAGE}
