"""`xuanyuan chat QUESTION`: what is sent, what is printed, and how it ends; also against the real engine."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from serving.chat_client import Chunk, Server
from tests.chat.program import CLEAN, COMMAND, chat
from tests.chat.scripted_server import DONE, Reply, ScriptedServer, answer, event, usage


def test_one_question_prints_the_answer_alone_on_stdout(server: ScriptedServer) -> None:
    server.script(answer(" 你好", "，世界", "。\n"))
    result = chat(server.url, "你是谁")
    assert (result.stdout.decode(), result.returncode) == ("你好，世界。\n", 0)
    assert result.stderr.decode().startswith("first token 0.")
    assert result.stderr.decode().endswith(" tokens/s, 3 tokens\n")
    assert server.requests == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "你是谁"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_standard_input_is_the_question(server: ScriptedServer) -> None:
    server.script(answer("ok"))
    assert chat(server.url, stdin=" 第一行\n第二行 \n".encode()).stdout == b"ok\n"
    assert server.requests[0]["messages"] == [{"role": "user", "content": "第一行\n第二行"}]


def test_flags_reach_the_request_and_the_key_the_header_only(server: ScriptedServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("sk-secret\n")
    server.script(answer("ok"))
    sampling = ["--temperature", "0", "--top-p", "0.9", "--max-tokens", "7", "--seed", "3"]
    others = ["--model", "other", "--system", "简洁", "--api-key-file", str(key)]
    result = chat(server.url + "/v1/", *sampling, *others, "hello")
    assert result.returncode == 0
    expected = {"model": "other", "temperature": 0.0, "top_p": 0.9, "max_tokens": 7, "seed": 3}
    assert {name: server.requests[0].get(name) for name in expected} == expected
    assert server.requests[0]["messages"][0] == {"role": "system", "content": "简洁"}
    assert server.keys == ["Bearer sk-secret"]
    assert b"sk-secret" not in result.stdout + result.stderr


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


WHOLE = b"".join(answer("轩辕", "大模型", "🙂"))
ENDED = event({"content": "ok"}, "stop")


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param(split(WHOLE, 1), "轩辕大模型🙂", id="UTF-8 split into single bytes"),
        pytest.param([WHOLE], "轩辕大模型🙂", id="all events at once"),
        pytest.param([WHOLE.replace(b"\n", b"\r\n")], "轩辕大模型🙂", id="CRLF"),
        pytest.param([b": keep-alive\n\n", *answer("ok")], "ok", id="comment first"),
        pytest.param([event({"role": "assistant"}), ENDED, DONE], "ok", id="role-only first chunk, no usage"),
        pytest.param([event({"content": None}), ENDED, DONE], "ok", id="null content"),
        pytest.param([ENDED], "ok", id="[DONE] missing after a finish_reason"),
        pytest.param([ENDED, DONE, b"data: nonsense\n\n"], "ok", id="something after [DONE]"),
        pytest.param(answer("a", " ", "\n", "b", "\n\n"), "a \nb", id="white space kept inside, stripped outside"),
    ],
)
def test_streams_that_are_whole(server: ScriptedServer, pieces: list[bytes], expected: str) -> None:
    server.script(pieces)
    result = chat(server.url, "q")
    assert (result.stdout.decode(), result.returncode) == (expected + "\n", 0), result.stderr


ERROR = json.dumps({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}).encode()


@pytest.mark.parametrize(
    ("reply", "shown", "message"),
    [
        pytest.param(
            Reply([event({"content": "轩辕"})], cut=True), "轩辕\n", "the connection was cut in the middle", id="cut"
        ),
        pytest.param(
            Reply([event({"content": "轩辕"})]), "轩辕\n", "the connection was cut in the middle", id="no end"
        ),
        pytest.param(Reply([WHOLE[:60]], cut=True), "", "the connection was cut in the middle", id="cut in an event"),
        pytest.param(
            Reply([event({"content": "a"}), b"data: " + ERROR + b"\n\n", DONE]),
            "a\n",
            "the server broke off the answer: EngineCore died",
            id="error in the stream",
        ),
        pytest.param(
            Reply([b'event: error\ndata: {"message": "draining"}\n\n']),
            "",
            "the server broke off the answer: draining",
            id="error event",
        ),
        pytest.param(Reply([b"data: <html>\n\n"]), "", "what is no part of a chat answer: <html>", id="not JSON"),
        pytest.param(Reply([b"data: 7\n\n"]), "", "what is no part of a chat answer: 7", id="not a chunk"),
    ],
)
def test_streams_that_break(server: ScriptedServer, reply: Reply, shown: str, message: str) -> None:
    server.script(reply)
    result = chat(server.url, "q")
    assert (result.stdout.decode(), result.returncode) == (shown, 3)
    assert message in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


def test_whoever_reads_the_answer_may_stop_early(server: ScriptedServer) -> None:
    server.script(Reply(answer(*["word " * 2000] * 50)))
    command = [*COMMAND, "--url", server.url, "q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(4) == b"word"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_ctrl_c_ends_one_question_with_130_and_keeps_what_came(server: ScriptedServer) -> None:
    server.script(Reply([event({"content": "half"}), *[b": ping\n\n"] * 200], pause=0.05))
    command = [*COMMAND, "--url", server.url, "q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(4) == b"half"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"\n"
        assert process.stderr.read().endswith(b"stopped by Ctrl-C\n")
    assert process.returncode == 130
    assert server.broken_off.wait(5)


def test_the_first_piece_is_shown_before_the_second_exists(server: ScriptedServer) -> None:
    server.script(Reply([*answer("now")[:2], *[b": ping\n\n"] * 20, usage(1), ENDED, DONE], pause=0.1))
    started = time.monotonic()
    first = next(chunk for chunk in Server(server.url).chat({"messages": []}) if chunk.text)
    assert first == Chunk("now")
    assert time.monotonic() - started < 1


def test_chat_imports_neither_the_engine_nor_a_client_library() -> None:
    code = "import sys, serving.commands.chat; print(sorted({'torch', 'vllm', 'openai', 'httpx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.engine
def test_the_real_server(demo_server: Any) -> None:
    question = "Complete the sentence: The capital of France is"
    result = chat(demo_server.url, "--temperature", "0", "--max-tokens", "12", question)
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout.decode()
    assert "first token" in result.stderr.decode() and "tokens/s" in result.stderr.decode()
