"""`--api-server-count 2`: both servers answer, their metrics add up, and start, drain and death are those of one."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.keys import Key, add, digest
from tests.server_process import XUANYUAN, ServerProcess
from tests.test_lifecycle import open_stream

pytestmark = [pytest.mark.engine, pytest.mark.slow]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TALK = [{"role": "user", "content": "What is a bond? Human: 1"}]


def start(folder: Path, *args: str) -> ServerProcess:
    return ServerProcess(["--api-server-count", "2", *args], folder)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = start(tmp_path, "--drain-timeout", "60")
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@contextmanager
def only(server: ServerProcess, index: int) -> Iterator[None]:
    """Connections that are made in here are taken by this server process: the other is held."""
    other = server_process(server, 1 - index)
    other.suspend()
    try:
        yield
    finally:
        other.resume()


def server_process(server: ServerProcess, index: int) -> psutil.Process:
    return server.child(f"VLLM::APIServer_{index}")


def metrics_folder(server: ServerProcess) -> Path:
    return Path(psutil.Process(server.process.pid).environ()["PROMETHEUS_MULTIPROC_DIR"])


def stream_of_each(server: ServerProcess, tokens: int) -> list[HTTPResponse]:
    """A stream of either server process, begun."""
    streams = []
    for index in (0, 1):
        with only(server, index):
            streams.append(open_stream(server.url, tokens))
    return streams


def whole(stream: HTTPResponse) -> bool:
    return stream.read().rstrip().endswith(b"data: [DONE]")


def test_both_answer_by_the_familys_template_and_their_metrics_are_sums(
    family_checkpoint: Path, tmp_path: Path
) -> None:
    keys_file = tmp_path / "keys.toml"
    keys = {name: add(keys_file, Key(name, digest(""))) for name in ("ann", "ben")}
    watcher = add(keys_file, Key("watcher", digest(""), scopes=("metrics",)))
    args = ["--template", "6b", "--dtype", "float32", "--keys-file", str(keys_file)]
    server = start(tmp_path, str(family_checkpoint), *args)
    try:
        url = server.wait_ready().url
        model = httpx.get(f"{url}/v1/models", headers=bearer(keys["ann"])).json()["data"][0]["id"]
        body = {"model": model, "messages": TALK, "max_tokens": 4, "ignore_eos": True}
        usages = []
        for index, name in ((0, "ann"), (1, "ann"), (1, "ben")):
            with only(server, index):
                answer = httpx.post(url + CHAT, json=body, headers=bearer(keys[name]), timeout=60)
                assert answer.status_code == 200, answer.text
                usages.append(answer.json()["usage"])
                assert httpx.post(url + CHAT, json=body, headers=bearer("wrong")).status_code == 401
        prompt = len(rendered(family_checkpoint))
        assert [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in usages] == [(prompt, 4)] * 3
        expected = {
            ("xuanyuan_requests_total", CHAT, "ann", "200"): 2,
            ("xuanyuan_requests_total", CHAT, "ben", "200"): 1,
            ("xuanyuan_requests_total", CHAT, "-", "401"): 3,
            ("xuanyuan_tokens_total", "ann", "prompt"): 2 * prompt,
            ("xuanyuan_tokens_total", "ben", "completion"): 4,
            ("xuanyuan_request_seconds_count", CHAT): 6,
            ("xuanyuan_requests_in_flight",): 0,
            ("xuanyuan_queued",): 0,
            ("xuanyuan_draining",): 0,
            ("xuanyuan_keys_file_broken",): 0,
            ("vllm:generation_tokens_total", "0", model): 12,
        }
        for index in (0, 1):
            with only(server, index):
                samples = read_metrics(url, bearer(watcher))
                assert {name: samples.get(name) for name in expected} == expected
    finally:
        server.stop()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def rendered(checkpoint: Path) -> list[int]:
    """The reference token ids of TALK."""
    command = [XUANYUAN, "render", "--template", "6b", "--tokenizer", str(checkpoint), "--json"]
    done = subprocess.run(command, input=json.dumps(TALK), capture_output=True, text=True, check=True)
    ids: list[int] = json.loads(done.stdout)["token_ids"]
    return ids


def read_metrics(url: str, headers: dict[str, str] | None = None) -> dict[tuple[str, ...], float]:
    """Every sample on /metrics by its name and its labels' values, route or engine first."""
    text = httpx.get(f"{url}/metrics", headers=headers).text
    order = ["route", "key", "code", "kind", "engine", "model_name"]
    return {
        (sample.name, *(sample.labels[label] for label in order if label in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_both_drain_on_one_sigterm_and_leave_nothing_behind(server: ServerProcess) -> None:
    streams = stream_of_each(server, 60)
    folder = metrics_folder(server)
    assert read_metrics(server.url)["xuanyuan_requests_in_flight",] == 2
    server.process.send_signal(signal.SIGTERM)
    for _ in range(100):
        refused = httpx.post(server.url + COMPLETIONS, json={"model": "SmolLM2-135M-Instruct", "prompt": "1"})
        if refused.status_code == 503:
            break
    assert refused.json()["error"]["code"] == "draining"
    assert all(whole(stream) for stream in streams)
    assert server.process.wait(60) == 0
    assert server.screen().count("Draining: 1 in flight, up to 60 s.") == 2
    assert server.screen().count("Stopped") == 1
    assert server.left_behind() == []
    assert not folder.exists()


@pytest.mark.live
def test_ctrl_c_reaches_the_launcher_alone(server: ServerProcess) -> None:
    streams = stream_of_each(server, 60)
    os.killpg(server.process.pid, signal.SIGINT)
    assert all(whole(stream) for stream in streams)
    assert server.process.wait(60) == 0
    assert server.left_behind() == []


@pytest.mark.live
def test_a_second_signal_ends_both_at_once(server: ServerProcess) -> None:
    streams = stream_of_each(server, 4000)
    server.process.send_signal(signal.SIGTERM)
    server.wait_for("Draining: 1 in flight")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    assert server.screen().count("Stopped at once; requests in flight were cut off.") == 1
    assert server.left_behind() == []
    for stream in streams:
        stream.close()


@pytest.mark.live
def test_what_outlasts_the_drain_is_cut_off_with_an_error(tmp_path: Path) -> None:
    server = start(tmp_path, "--drain-timeout", "1").wait_ready()
    with only(server, 1):
        stream = open_stream(server.url, 4000)
    assert server.stop() == 0
    assert b'"server_stopped"' in stream.read()
    assert "Stopped; 1 still in flight after 1 s were cut off." in server.screen()
    assert server.left_behind() == []


@pytest.mark.live
@pytest.mark.parametrize("name", ["EngineCore", "Worker"])
def test_a_dead_engine_ends_the_streams_of_both_and_the_service_with_exit_code_4(
    server: ServerProcess, name: str
) -> None:
    streams = stream_of_each(server, 4000)
    server.child(name).kill()
    for stream in streams:
        rest = stream.read()
        assert b'"error"' in rest
        assert b"Traceback" not in rest
    assert server.process.wait(20) == 4
    assert server.screen().count("The engine died") == 1
    assert "Traceback" not in server.screen()
    assert server.left_behind() == []


@pytest.mark.live
def test_a_dead_server_lets_the_other_finish_and_ends_the_service_with_exit_code_4(server: ServerProcess) -> None:
    lost, kept = stream_of_each(server, 60)
    server_process(server, 0).kill()
    assert whole(kept)
    assert server.process.wait(20) == 4
    assert "APIServer_0 died (exit code -9)." in server.screen()
    assert server.left_behind() == []
    lost.close()


@pytest.mark.live
def test_a_hung_server_is_killed_after_the_second_signal(server: ServerProcess) -> None:
    hung = server_process(server, 0)
    hung.suspend()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 4
    assert "APIServer_0 died (exit code -9)." in server.screen()
    assert server.left_behind() == []


def test_sigkill_of_the_launcher_takes_all_with_it(server: ServerProcess) -> None:
    server.process.kill()
    assert server.process.wait(10) == -signal.SIGKILL
    assert server.left_behind(timeout=30) == []


@pytest.mark.live
@pytest.mark.parametrize("wait_for", ["Importing the engine …", "Starting the engine and 2 servers …"])
def test_a_signal_during_the_start_ends_it(tmp_path: Path, wait_for: str) -> None:
    server = start(tmp_path)
    server.wait_for(wait_for)
    time.sleep(1)
    server.family = server.children()
    folder = metrics_folder(server)
    assert server.stop(20) == 0
    assert "Stopped before the server was ready." in server.screen()
    assert "Traceback" not in server.screen()
    assert server.left_behind() == []
    assert not folder.exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--api-server-count", "2", "--", "--block-size", "16"], 3, "No common block size for 16"),
        (["--api-server-count", "2", "--", "--data-parallel-size", "2"], 2, "api_server_count=2: expected 1"),
        (["--", "--api-server-count", "2"], 2, "--api-server-count after --: give it before the --"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_what_cannot_be_is_refused_in_words(tmp_path: Path, args: list[str], code: int, words: str) -> None:
    server = ServerProcess(args, tmp_path)
    try:
        assert server.process.wait(60) == code, server.screen()
    finally:
        server.stop()
    assert words in server.screen(), server.screen()
    assert "Traceback" not in server.screen()
