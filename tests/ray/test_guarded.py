"""Keys and limits with two replicas: what one key may ask holds over both, by Redis; and the way out."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from serving.keys import SCOPES, Key, add, digest
from tests.ray.load import Load
from tests.ray.ray_process import RayProcess, small_args

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(600)]


class Guarded(NamedTuple):
    """A server, a key with a limit of 5 requests a minute, and one that opens all."""

    server: RayProcess
    limited: str
    admin: str


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of the tests' own."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=tmp_path_factory.mktemp("redis"))
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def guarded(redis: str, small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("ray_guarded")
    file = folder / "keys.json"
    limited = add(file, Key("alice", digest(""), scopes=("inference",), requests_per_minute=5))
    admin = add(file, Key("root", digest(""), scopes=SCOPES))
    args = small_args(small_checkpoint)
    args += ["--replicas", "2", "--kv-cache-memory-bytes", "150000000", "--keys-file", str(file)]
    server = RayProcess([*args, "--rate-limit-storage", redis, "--drain-timeout", "40"], folder)
    try:
        yield Guarded(server.wait_ready(), limited, admin)
    finally:
        server.stop()


def ask(guarded: Guarded, key: str, tokens: int = 2) -> httpx.Response:
    body = {"model": "small", "prompt": "a", "max_tokens": tokens, "ignore_eos": True}
    return httpx.post(f"{guarded.server.url}/v1/completions", json=body, headers={"x-api-key": key}, timeout=120)


def test_without_a_good_key_there_is_no_answer(guarded: Guarded) -> None:
    for key, code in (("", "missing_api_key"), ("xy-wrong", "invalid_api_key")):
        answer = ask(guarded, key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert httpx.get(f"{guarded.server.url}/metrics", headers={"x-api-key": guarded.limited}).status_code == 403
    assert httpx.get(f"{guarded.server.url}/metrics", headers={"x-api-key": guarded.admin}).status_code == 200


def test_a_keys_limit_holds_over_both_replicas(guarded: Guarded) -> None:
    statuses = [ask(guarded, guarded.limited).status_code for _ in range(9)]
    assert statuses == [200] * 5 + [429] * 4


def test_keys_are_in_no_log(guarded: Guarded) -> None:
    logs = guarded.server.log.parent.glob("*.log")
    assert not any(guarded.admin in file.read_text(errors="replace") for file in logs)
    assert guarded.admin not in guarded.server.screen()


def test_sigterm_lets_streams_finish_and_refuses_new_requests(guarded: Guarded) -> None:
    """The last test here: it ends the server."""
    server, family = guarded.server, guarded.server.children()

    async def streams() -> tuple[list[str], list[int]]:
        async with httpx.AsyncClient(timeout=120, headers={"x-api-key": guarded.admin}) as http:

            async def one() -> str:
                body = {"model": "small", "prompt": "a", "max_tokens": 400, "ignore_eos": True, "stream": True}
                async with http.stream("POST", f"{server.url}/v1/completions", json=body) as answer:
                    return "".join([part async for part in answer.aiter_text()])

            running = [asyncio.create_task(one()) for _ in range(6)]
            await asyncio.sleep(2)
            os.kill(server.process.pid, signal.SIGTERM)
            refused: list[int] = []
            while not all(task.done() for task in running):
                answer = await asyncio.to_thread(ask, guarded, guarded.admin)
                refused.append(answer.status_code)
                if answer.status_code == 503:
                    assert json.loads(answer.text)["error"]["code"] == "no_replica"
                await asyncio.sleep(0.2)
            return [task.result() for task in running], refused

    texts, statuses = asyncio.run(streams())
    assert all(text.rstrip().endswith("data: [DONE]") for text in texts)
    assert set(statuses) <= {200, 503}
    assert server.process.wait(60) == 0
    assert "Stopped." in server.screen()
    server.family = family
    assert server.left_behind(20) == []


def test_a_second_signal_and_sigkill_leave_nothing_behind(small_checkpoint: Path, tmp_path: Path) -> None:
    args = small_args(small_checkpoint)
    args += ["--replicas", "1", "--kv-cache-memory-bytes", "150000000"]
    for number, ending in enumerate(("twice", "kill", "gcs")):
        folder = tmp_path / str(number)
        folder.mkdir()
        server = RayProcess(args, folder).wait_ready()
        asyncio.run(Load(server.url, "small").learn())
        family = server.children()
        if ending == "kill":
            server.process.kill()
            assert server.process.wait(10) == -signal.SIGKILL
        elif ending == "gcs":
            next(child for child in family if child.name() == "gcs_server").kill()
            assert server.process.wait(60) == 4
            assert "Ray died" in server.screen()
        else:
            server.process.terminate()
            server.wait_for("Draining")
            server.process.terminate()
            assert server.process.wait(15) == 0
        server.family = family
        assert server.left_behind(30) == [], ending
