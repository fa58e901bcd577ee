"""`xuanyuan chat` where it gets no answer: refusals in the server's words, no server, bad arguments, keys."""

import socket
from pathlib import Path

import pytest

from serving.chat_client import Server
from serving.commands.chat import api_key
from serving.errors import ConfigError
from tests.chat.program import chat
from tests.chat.scripted_server import Reply, ScriptedServer, answer, refuse


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
