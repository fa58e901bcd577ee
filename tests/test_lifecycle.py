"""Start and stop, and what happens when parts die: exit codes, streams, and that nothing is left behind."""

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.server_process import ServerProcess, xuanyuan

pytestmark = pytest.mark.engine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(["--drain-timeout", "60"], tmp_path)
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def open_stream(url: str, tokens: int) -> HTTPResponse:
    """A streamed answer of exactly `tokens` tokens, begun but not read."""
    body = {
        "model": "SmolLM2-135M-Instruct",
        "prompt": "Once",
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), headers)
    stream: HTTPResponse = urllib.request.urlopen(request, timeout=60)
    stream.readline()
    return stream


def test_sigterm_lets_a_stream_finish_and_leaves_nothing_behind(server: ServerProcess) -> None:
    stream = open_stream(server.url, 60)
    server.process.send_signal(signal.SIGTERM)
    assert stream.read().rstrip().endswith(b"data: [DONE]")
    assert server.process.wait(60) == 0
    assert server.left_behind() == []


@pytest.mark.slow
def test_ctrl_c_reaches_the_launcher_alone(server: ServerProcess) -> None:
    """A terminal sends Ctrl-C to the whole process group; the engine must not take it."""
    stream = open_stream(server.url, 60)
    os.killpg(server.process.pid, signal.SIGINT)
    assert stream.read().rstrip().endswith(b"data: [DONE]")
    assert server.process.wait(60) == 0
    assert server.left_behind() == []


@pytest.mark.live
def test_a_second_signal_ends_at_once(server: ServerProcess) -> None:
    stream = open_stream(server.url, 4000)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("Draining: 1 in flight")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert "at once" in server.screen()
    assert server.left_behind() == []
    stream.close()


@pytest.mark.slow
def test_what_outlasts_the_drain_is_cut_off_and_told(tmp_path: Path) -> None:
    server = ServerProcess(["--drain-timeout", "1"], tmp_path).wait_ready()
    stream = open_stream(server.url, 4000)
    server.process.send_signal(signal.SIGTERM)
    assert b'"error"' in stream.read()
    assert server.process.wait(20) == 0
    assert "1 still in flight after 1 s were cut off" in server.screen()
    assert "Traceback" not in server.screen()
    assert server.left_behind() == []


@pytest.mark.live
def test_a_stopped_engine_does_not_hold_up_the_end(server: ServerProcess) -> None:
    server.child("EngineCore").suspend()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert server.left_behind() == []


@pytest.mark.slow
def test_an_engine_that_dies_during_the_drain_is_no_success(server: ServerProcess) -> None:
    stream = open_stream(server.url, 4000)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("Draining: 1 in flight")
    server.child("EngineCore").kill()
    assert b'"error"' in stream.read()
    assert server.process.wait(30) == 4
    assert server.left_behind() == []


@pytest.mark.slow
def test_sigkill_of_the_launcher_takes_the_engine_with_it(server: ServerProcess) -> None:
    server.process.kill()
    assert server.process.wait(10) == -signal.SIGKILL
    assert server.left_behind(timeout=30) == []


@pytest.mark.parametrize(
    "moment",
    ["Importing the engine …", "Starting the engine …", pytest.param("Starting the engine:", marks=pytest.mark.live)],
)
@pytest.mark.parametrize("later", [0.0, pytest.param(0.4, marks=pytest.mark.live)])
def test_a_signal_during_the_start_ends_it(tmp_path: Path, moment: str, later: float) -> None:
    server = ServerProcess([], tmp_path)
    server.wait_for(moment)
    time.sleep(later)
    server.family = server.children()
    assert server.stop(20) == 0
    assert "Stopped before the server was ready." in server.screen()
    assert server.left_behind() == []


def test_a_start_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    server = ServerProcess(["--start-timeout", "2"], tmp_path)
    assert server.process.wait(60) == 3
    assert "start_timeout=2" in server.screen()
    assert "Traceback" not in server.screen()


def test_a_taken_port_is_refused_before_anything_slow() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = xuanyuan("serve", "--port", port, timeout=10)
    assert done.returncode == 3
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert "Importing" not in done.stderr


@pytest.mark.parametrize(
    ("passed", "code", "words"),
    [
        (["--no-such-flag"], 2, ["--no-such-flag"]),
        (["--max-model-len", "999999"], 2, ["max_model_len", "999999"]),
        pytest.param(["--block-size", "16"], 3, ["No common block size for 16"], marks=pytest.mark.live),
        pytest.param(["--middleware", "no.such.Thing"], 3, ["No module named"], marks=pytest.mark.live),
        pytest.param(["--ssl-keyfile", "/no", "--ssl-certfile", "/no"], 3, ["No such file"], marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_vllm_refuses_is_said_without_a_stack_trace(
    tmp_path: Path, passed: list[str], code: int, words: list[str]
) -> None:
    server = ServerProcess(["--", *passed], tmp_path)
    assert server.process.wait(90) == code, server.screen()
    assert all(word in server.screen() for word in words), server.screen()
    assert "Traceback" not in server.screen() and "Ready" not in server.screen()
