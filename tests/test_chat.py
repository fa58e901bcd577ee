"""`xuanyuan chat`: against a scripted server, byte for byte, on a real pseudo-terminal, and against the real engine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.chat import Answer, Conversation, clean
from serving.chat_client import Chunk, Server
from serving.commands.chat import api_key
from serving.errors import ConfigError
from serving.sse import Event, events
from serving.terminal import has_colour, printable
from tests.pty_terminal import CTRL_C, CTRL_D, UP, Terminal
from tests.scripted_server import DONE, Reply, ScriptedServer, answer, event, running, usage

COMMAND = [str(Path(sys.executable).with_name("xuanyuan")), "chat"]
CLEAN = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with running() as script:
        yield script


def chat(url: str, *arguments: str, stdin: bytes = b"", **environ: str) -> "subprocess.CompletedProcess[bytes]":
    command = [*COMMAND, "--url", url, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, env={**CLEAN, **environ}, timeout=60)


def terminal(url: str, *arguments: str, **environ: str) -> Terminal:
    return Terminal([*COMMAND, "--url", url, *arguments], {**CLEAN, "NO_COLOR": "1", "TERM": "xterm", **environ})


# --- Events, byte by byte ---------------------------------------------------------------------------------------------

STREAM = (
    'data: {"a": "轩辕🙂"}\r\n\r\n: ping\n\nevent: error\ndata: one\ndata:two\n\rid: 7\rdata: three\r\rdata: lost'
).encode()
EVENTS = [Event("message", '{"a": "轩辕🙂"}'), Event("error", "one\ntwo"), Event("message", "three")]


@pytest.mark.parametrize("size", range(1, 12))
def test_events_do_not_depend_on_where_the_chunks_are_cut(size: int) -> None:
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert list(events(pieces)) == EVENTS


# --- One question -----------------------------------------------------------------------------------------------------


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


def refuse(status: int, body: object, **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply([text.encode()], status, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        pytest.param(
            refuse(400, {"error": {"message": "XuanYuan-6B is a base model: use XuanYuan-6B-Chat"}}),
            "the server refused (400): XuanYuan-6B is a base model: use XuanYuan-6B-Chat",
            id="completion-only",
        ),
        pytest.param(
            refuse(401, {"error": {"message": "Incorrect API key"}}),
            "(401): Incorrect API key; give a key with --api-key-file or XUANYUAN_API_KEY",
            id="key",
        ),
        pytest.param(refuse(401, {"error": "Unauthorized"}), "(401): Unauthorized; give a key", id="vLLM's own 401"),
        pytest.param(
            refuse(429, {"error": {"message": "60 requests a minute"}}, Retry_After="7"),
            "(429): 60 requests a minute; try again in 7 s",
            id="quota",
        ),
        pytest.param(
            refuse(503, {"detail": "draining"}, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"),
            "(503): draining; try again after Wed, 21 Oct 2026 07:28:00 GMT",
            id="drain",
        ),
        pytest.param(refuse(502, "<h1>Bad gateway</h1>"), "(502): <h1>Bad gateway</h1>", id="no JSON"),
        pytest.param(refuse(500, ""), "(500): Internal Server Error", id="no body"),
        pytest.param(
            refuse(302, "", Location="http://elsewhere.example/v1"),
            "moved to http://elsewhere.example/v1",
            id="redirect",
        ),
    ],
)
def test_refusals_are_told_in_the_servers_words(server: ScriptedServer, reply: Reply, message: str) -> None:
    server.script(reply)
    result = chat(server.url, "q")
    assert (result.stdout, result.returncode) == (b"", 3)
    assert message in result.stderr.decode()
    assert len(result.stderr.splitlines()) == 1


def test_no_server_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = chat(url, "q")
    assert (result.stdout, result.returncode) == (b"", 3)
    assert f"no server at {url}: start one with `make serve`" in result.stderr.decode()
    assert len(result.stderr.splitlines()) == 1


def test_bytes_that_are_no_text_and_characters_that_the_output_lacks(server: ScriptedServer) -> None:
    server.script(answer("轩辕"), answer("轩辕"))
    result = chat(server.url, stdin=b"a\xe8b", PYTHONIOENCODING="utf-8:strict")
    assert (result.stdout.decode(), result.returncode) == ("轩辕\n", 0)
    assert server.requests[0]["messages"][0]["content"] == "a\ufffdb"
    assert chat(server.url, "q", PYTHONIOENCODING="ascii:strict").stdout == b"??\n"


def test_a_proxy_is_not_asked_for_this_box(server: ScriptedServer) -> None:
    server.script(answer("ok"))
    assert chat(server.url, "q", http_proxy="http://127.0.0.1:9", no_proxy="").stdout == b"ok\n"


@pytest.mark.parametrize("models", [b"<html>hello</html>", b"[]", b'{"data": 3}', b'{"data": [{}]}'])
def test_a_server_that_is_none_of_ours(server: ScriptedServer, models: bytes) -> None:
    server.models = models
    result = chat(server.url, "q")
    assert result.returncode == 3
    assert "answers, but not as an OpenAI-compatible server does" in result.stderr.decode()


def test_a_server_without_models_needs_a_name(server: ScriptedServer) -> None:
    server.models = b'{"data": []}'
    assert "name one with --model" in chat(server.url, "q").stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--url", "localhost:8000", "q"],
            '--url: expected something like http://127.0.0.1:8000, got "localhost:8000"',
        ),
        (["--url", "http://h:99999", "q"], "--url: expected"),
        (["--url", "http://h:x", "q"], "--url: expected"),
        (["  "], "the question is empty"),
        (["--api-key-file", "/nonexistent/key", "q"], "--api-key-file /nonexistent/key: No such file"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    result = chat("http://127.0.0.1:9", *arguments)
    assert (result.stdout, result.returncode) == (b"", 2)
    assert message in result.stderr.decode()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"OPENAI_API_KEY": "b"}, "b"),
        ({"XUANYUAN_API_KEY": "a", "OPENAI_API_KEY": "b"}, "a"),
        ({"XUANYUAN_API_KEY": "", "OPENAI_API_KEY": "b"}, "b"),
    ],
)
def test_key_from_the_environment(environ: dict[str, str], expected: str | None) -> None:
    assert api_key(None, environ) == expected


@pytest.mark.parametrize("key", ["", "two keys", "a\nb", "钥匙"])
def test_a_key_that_no_header_can_carry(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    with pytest.raises(ConfigError, match="expected one key in printable ASCII") as caught:
        api_key(file, {})
    assert not key or key not in str(caught.value)


def test_a_key_never_shows_in_a_repr() -> None:
    assert "sk-secret" not in repr(Server("http://127.0.0.1:8000", "sk-secret"))


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


# --- On a terminal ----------------------------------------------------------------------------------------------------


def roles_and_texts(request: dict[str, Any]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in request["messages"]]


def test_several_turns_clear_and_exit(server: ScriptedServer) -> None:
    server.script(answer(" 我是", "轩辕 "), answer("second"), answer("third"))
    with terminal(server.url) as tty:
        tty.expect("tiny at http://127.0.0.1:")
        tty.expect("context 2,048 tokens")
        tty.expect("> ")
        tty.type("  你是谁  \r")
        tty.expect("我是轩辕\r\n[first token 0.")
        tty.expect("tokens/s, 2 tokens]")
        tty.expect("> ")
        tty.type("再说一遍\r")
        tty.expect("second")
        tty.expect("> ")
        tty.type(" CLEAR!! \r")
        tty.expect("clear...")
        tty.expect("> ")
        tty.type("anew\r")
        tty.expect("third")
        tty.expect("> ")
        tty.type("EXIT!!\r")
        tty.expect("exit....")
        assert tty.end() == 0
    assert [roles_and_texts(request) for request in server.requests] == [
        [("user", "你是谁")],
        [("user", "你是谁"), ("assistant", "我是轩辕"), ("user", "再说一遍")],
        [("user", "anew")],
    ]


def test_ctrl_c_stops_the_answer_only_and_ctrl_d_leaves(server: ScriptedServer) -> None:
    server.script(Reply([event({"content": "half an answer"}), *[b": ping\n\n"] * 400], pause=0.05), answer("whole"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("long\r")
        tty.expect("half an answer")
        tty.type(CTRL_C)
        tty.expect("stopped by Ctrl-C]")
        tty.expect("> ")
        tty.type("half a line" + CTRL_C)
        tty.expect("EXIT!! or Ctrl-D leaves")
        tty.expect("> ")
        tty.type("next\r")
        tty.expect("whole")
        tty.expect("> ")
        tty.type(CTRL_D)
        assert tty.end() == 0
    assert server.broken_off.wait(5)
    assert roles_and_texts(server.requests[1]) == [
        ("user", "long"),
        ("assistant", "half an answer"),
        ("user", "next"),
    ]


def test_ctrl_c_before_the_first_token_takes_the_question_back(server: ScriptedServer) -> None:
    server.script(Reply([event({"role": "assistant"}), *[b": ping\n\n"] * 400], pause=0.05), answer("whole"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("slow\r")
        while not server.requests:
            time.sleep(0.01)
        tty.type(CTRL_C)
        tty.expect("[stopped by Ctrl-C]")
        tty.expect("> ")
        tty.type("next\r")
        tty.expect("whole")
    assert roles_and_texts(server.requests[1]) == [("user", "next")]


def test_an_error_ends_the_turn_and_not_the_chat(server: ScriptedServer) -> None:
    cut = Reply([event({"content": "par"})], cut=True)
    server.script(refuse(503, {"error": {"message": "busy"}}, Retry_After="2"), cut, answer("fine"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("one\r")
        tty.expect("the server refused (503): busy; try again in 2 s")
        tty.expect("> ")
        tty.type("two\r")
        tty.expect("par")
        tty.expect("the connection was cut")
        tty.expect("> ")
        tty.type("three\r")
        tty.expect("fine")
        tty.expect("> ")
        tty.type("EXIT!!\r")
        assert tty.end() == 0
    # What was refused is not in the history, what came of the cut answer is.
    assert roles_and_texts(server.requests[2]) == [("user", "two"), ("assistant", "par"), ("user", "three")]


def test_system_save_help_and_lines_that_only_look_like_commands(server: ScriptedServer, tmp_path: Path) -> None:
    server.script(answer("好"), answer("b"), answer("c"))
    saved = tmp_path / "talk.json"
    with terminal(server.url, "--system", "old") as tty:
        for typed, shown in [
            ("/help", "EXIT!!         leave"),
            ("/hepl", 'no command /hepl (did you mean "/help"?)'),
            ("/system  用中文 ", "system message set"),
            ("/save", "/save needs the name of a file"),
            ("", ""),
            ("/etc/hosts 是什么", "好"),
            (f"/save {saved}", f"saved 3 messages to {saved}"),
            (f"/save {saved}", f"{saved} exists: /save! {saved} overwrites it"),
            ("/save /nonexistent/x", "cannot write /nonexistent/x: No such file or directory"),
            (" /help", "b\r\n["),
            (f"/save! {saved}", f"saved 5 messages to {saved}"),
            ("/system", "no system message"),
            ("last", "c\r\n["),
        ]:
            tty.expect("> ")
            tty.type(typed + "\r")
            tty.expect(shown)
        tty.expect("> ")
        tty.type("EXIT!!\r")
        assert tty.end() == 0
    messages = json.loads(saved.read_text(encoding="utf-8"))
    assert messages == [
        {"role": "system", "content": "用中文"},
        {"role": "user", "content": "/etc/hosts 是什么"},
        {"role": "assistant", "content": "好"},
        {"role": "user", "content": "/help"},
        {"role": "assistant", "content": "b"},
    ]
    assert server.requests[2]["messages"] == [*messages[1:], {"role": "user", "content": "last"}]


def test_lines_are_edited_and_recalled(server: ScriptedServer) -> None:
    server.script(answer("a"), answer("b"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("轩辕大\x7f\x7f辕！\r")
        tty.expect("a\r\n[")
        tty.expect("> ")
        tty.type(UP + "？\r")
        tty.expect("b\r\n[")
        tty.expect("> ")
        tty.type(CTRL_D)
        assert tty.end() == 0
    assert [request["messages"][-1]["content"] for request in server.requests] == ["轩辕！", "轩辕！？"]


def test_a_model_cannot_drive_the_terminal(server: ScriptedServer) -> None:
    server.script(answer("safe\x1b[2J\x07", "\x9b31m end"))
    with terminal(server.url) as tty:
        tty.expect("> ")
        tty.type("q\r")
        tty.expect("safe␛[2J␇\ufffd31m end")


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_no_color(server: ScriptedServer, no_color: str, coloured: bool) -> None:
    with terminal(server.url, NO_COLOR=no_color) as tty:
        banner = tty.expect("leaves.")
        assert ("\x1b[2m" in banner) == coloured


# --- Parts ------------------------------------------------------------------------------------------------------------


def test_clean_strips_and_leaves_no_half_character() -> None:
    assert clean("  \u3000你好\ud83d \n") == "你好?"


def test_printable_keeps_lines_and_tabs() -> None:
    assert printable("a\tb\r\nc\x00\x7f") == "a\tb\nc␀␡"


@pytest.mark.parametrize(
    ("is_a_terminal", "environ", "expected"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_has_colour(is_a_terminal: bool, environ: dict[str, str], expected: bool) -> None:
    class Stream:
        def isatty(self) -> bool:
            return is_a_terminal

    assert has_colour(Stream(), environ) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], "no tokens"),
        (
            [(1, Chunk("")), (2, Chunk("a")), (4, Chunk("b")), (5, Chunk("", "stop", 5))],
            "first token 2.00 s, 2.0 tokens/s, 5 tokens",
        ),
        ([(2, Chunk("a")), (2, Chunk("", "stop", 1))], "first token 2.00 s, 1 token"),
        ([(2, Chunk("a")), (3, Chunk("b"))], "first token 2.00 s"),
        (
            [(2, Chunk("a", "length", 1))],
            "first token 2.00 s, 1 token, cut off at the length limit (--max-tokens, or the context)",
        ),
    ],
)
def test_statistics(chunks: list[tuple[float, Chunk]], expected: str) -> None:
    grown = Answer(started=0.0)
    for now, chunk in chunks:
        grown.add(chunk, now)
    assert grown.statistics() == expected


def test_clear_keeps_the_system_message() -> None:
    conversation = Conversation({}, "s", [{"role": "user", "content": "q"}])
    conversation.clear()
    assert conversation.messages() == [{"role": "system", "content": "s"}]


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
    result = chat(demo_server.url, "--temperature", "0", "--max-tokens", "12", "What is the capital of France?")
    assert result.returncode == 0, result.stderr
    assert "Paris" in result.stdout.decode()
    assert "first token" in result.stderr.decode() and "tokens/s" in result.stderr.decode()
