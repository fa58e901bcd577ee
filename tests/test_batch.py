"""`xuanyuan batch`: OpenAI's batch format in and out, resumed where it was, and errors before slow work."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import cli
from serving.errors import ConfigError
from tests.chat.scripted_server import Reply, ScriptedServer, refuse, running
from tests.server_process import XUANYUAN, ServerProcess, xuanyuan

GOOD = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "Hi"}}]}


def row(custom_id: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Question {custom_id}"}]
    url = "/v1/chat/completions"
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": {"messages": messages, **body}}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def good() -> Reply:
    return Reply([json.dumps(GOOD).encode()], headers={"Content-Type": "application/json", "x-request-id": "r1"})


def read(path: Path) -> dict[str, Any]:
    return {row["custom_id"]: row for row in map(json.loads, path.read_text().splitlines())}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with running() as script:
        yield script


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def batch(server: ScriptedServer, source: Path, output: Path) -> int:
    return cli.run(["batch", str(source), "-o", str(output), "--url", server.url, "--concurrency", "1"])


def test_each_request_has_its_answer(server: ScriptedServer, tmp_path: Path, output: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row("a", max_tokens=3), row("b")])
    server.script(good(), good())
    assert batch(server, source, output) == 0
    assert server.requests == [row("a", max_tokens=3)["body"], row("b")["body"]]
    found = read(output)
    assert set(found) == {"a", "b"}
    assert found["a"]["response"] == {"status_code": 200, "request_id": "r1", "body": GOOD}
    assert (found["a"]["error"], found["a"]["id"][:10]) == (None, "batch_req_")


def test_what_failed_is_in_the_output_and_asked_for_again(
    server: ScriptedServer, tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.jsonl", [row("a"), row("b"), row("c")])
    server.script(good(), refuse(400, {"error": {"message": "too long"}}), good())
    assert batch(server, source, output) == 1
    assert read(output)["b"]["response"]["body"] == {"error": {"message": "too long"}}
    said = capsys.readouterr().err
    assert "2 of 3 answered, 1 failed" in said
    assert "The first that failed: b: HTTP 400, too long. Run the same command" in said
    server.script(good())
    assert batch(server, source, output) == 0
    assert [request["messages"][0]["content"] for request in server.requests[3:]] == ["Question b"]
    assert {found["response"]["status_code"] for found in read(output).values()} == {200}
    assert len(output.read_text().splitlines()) == 3
    assert batch(server, source, output) == 0
    assert len(server.requests) == 4


def test_a_run_that_was_killed_goes_on(server: ScriptedServer, tmp_path: Path, output: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row("a"), row("b")])
    answer = {"custom_id": "a", "response": {"status_code": 200, "body": GOOD}}
    output.write_text(json.dumps(answer) + '\n{"custom_id": "b", "respo')
    server.script(good())
    assert batch(server, source, output) == 0
    assert set(read(output)) == {"a", "b"}
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server: ScriptedServer, tmp_path: Path, output: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row("a")])
    server.script(refuse(429, {}, retry_after="1"), refuse(503, {}), good())
    assert batch(server, source, output) == 0
    assert len(server.requests) == 3


def test_ctrl_c_keeps_what_is_on_its_way(server: ScriptedServer, tmp_path: Path, output: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row(name) for name in "abcd"])
    half = len(json.dumps(GOOD)) // 2
    pieces = [json.dumps(GOOD)[:half].encode(), json.dumps(GOOD)[half:].encode()]
    server.script(*[Reply(pieces, headers={"Content-Type": "application/json"}, pause=1.0)] * 2)
    words = ["batch", str(source), "-o", str(output), "--url", server.url, "--concurrency", "2"]
    process = subprocess.Popen([XUANYUAN, *words], stderr=subprocess.PIPE, text=True)
    while len(server.requests) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, screen = process.communicate(timeout=60)
    assert process.returncode == 130
    assert set(read(output)) == {"a", "b"}
    assert screen == (
        "Stopping: waiting for the 2 in flight. Ctrl-C again gives them up.\n"
        f"2 of 4 answered, 0 failed, {screen.split()[-1]}\n"
    )
    server.script(good(), good())
    assert batch(server, source, output) == 0
    assert set(read(output)) == set("abcd")


def test_a_second_ctrl_c_gives_them_up(server: ScriptedServer, tmp_path: Path, output: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row("a")])
    server.script(Reply([b"{", b"}"], pause=3.0))
    words = ["batch", str(source), "-o", str(output), "--url", server.url]
    process = subprocess.Popen([XUANYUAN, *words], stderr=subprocess.PIPE, text=True)
    while not server.requests:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.stderr and process.stderr.readline().startswith("Stopping: waiting for the 1 in flight.")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: Expecting property name"),
        ("[]", "line 2: expected a JSON object"),
        ({**row("b"), "custom_id": 7}, "line 2: custom_id is 7: expected a text"),
        (row("a"), "line 2: custom_id 'a' stands in an earlier line"),
        ({**row("b"), "method": "GET"}, "line 2: method is 'GET': expected 'POST'"),
        ({**row("b"), "url": "/v1/embeddings"}, "line 2: url is '/v1/embeddings': expected one of"),
        ({**row("b"), "body": None}, "line 2: body is NoneType: expected the request as an object"),
        (row("b", stream=True), "line 2: body.stream is set"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_asked(
    server: ScriptedServer, tmp_path: Path, output: Path, line: Any, words: str
) -> None:
    source = write(tmp_path / "in.jsonl", [row("a"), line])
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        batch(server, source, output)
    assert server.requests == []
    assert not output.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"custom_id": "z", "response": null}\n', "'z' is not in the input"),
        ('{"name": 1}\n{"custom_id": "a", "response": null}\n', "line 1: no output of a batch"),
    ],
)
def test_another_files_content_is_not_touched(
    server: ScriptedServer, tmp_path: Path, output: Path, text: str, words: str
) -> None:
    output.write_text(text)
    with pytest.raises(ConfigError, match=words):
        batch(server, write(tmp_path / "in.jsonl", [row("a")]), output)
    assert output.read_text() == text


def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row("a")])
    empty = write(tmp_path / "empty.jsonl", [])
    url = "http://127.0.0.1:9"
    for words, code, text in (
        ([str(tmp_path / "none"), "-o", "x"], 2, "cannot be read: No such file"),
        ([str(empty), "-o", "x"], 2, "it holds no request"),
        ([str(source), "-o", str(tmp_path / "out"), "--url", url], 3, f"no server at {url}"),
        ([str(source), "-o", str(tmp_path / "out"), "--concurrency", "0"], 2, "--concurrency=0: expected"),
    ):
        done = xuanyuan("batch", *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
        assert text in done.stderr


@pytest.mark.engine
def test_with_the_demo_model(demo_server: ServerProcess, tmp_path: Path, output: Path) -> None:
    text = {"custom_id": "text", "url": "/v1/completions", "body": {"prompt": "A bond is", "max_tokens": 4}}
    rows = [*(row(str(number), max_tokens=4) for number in range(6)), row("bad", max_tokens=10**6), text]
    source = write(tmp_path / "in.jsonl", rows)
    done = xuanyuan("batch", str(source), "-o", str(output), "--url", demo_server.url, timeout=120)
    assert done.returncode == 1
    found = read(output)
    assert {name: answer["response"]["status_code"] for name, answer in found.items()} == {
        **{str(number): 200 for number in range(6)}, "bad": 400, "text": 200
    }  # fmt: skip
    assert found["0"]["response"]["body"]["choices"][0]["message"]["content"]
    assert "7 of 8 answered, 1 failed" in done.stderr


@pytest.mark.engine
def test_interrupted_and_run_again_it_goes_on(demo_server: ServerProcess, tmp_path: Path, output: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row(str(number), max_tokens=40) for number in range(24)])
    words = ["batch", str(source), "-o", str(output), "--url", demo_server.url, "--concurrency", "3"]
    process = subprocess.Popen([XUANYUAN, *words], stderr=subprocess.PIPE, text=True)
    while not (output.exists() and output.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, screen = process.communicate(timeout=120)
    assert process.returncode == 130, screen
    first = read(output)
    assert 0 < len(first) < 24
    done = xuanyuan(*words, timeout=240)
    assert done.returncode == 0, done.stderr
    assert f"{len(first)} were answered before." in done.stderr
    assert "24 of 24 answered, 0 failed" in done.stderr
    both = read(output)
    assert len(both) == 24
    # What was answered before is not asked for again.
    assert {name: both[name]["id"] for name in first} == {name: answer["id"] for name, answer in first.items()}
