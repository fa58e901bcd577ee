"""Two replicas of the demo on Ray: the launcher's own tests, unchanged, and the guard's tables through the proxy."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import psutil
import pytest

from serving.guard.routes import BLOCKED
from tests.guard import test_bodies, test_routing
from tests.guard.stub import CHAT
from tests.ray.ray_process import REPLICA, RayProcess
from tests.test_server import (  # noqa: F401
    client,
    model,
    test_32_at_once,
    test_a_bad_request_is_refused_in_openai_s_form,
    test_answers_in_a_json_schema,
    test_chat,
    test_completions,
    test_models,
    test_n,
    test_stop,
    test_streamed_chat_equals_the_whole_answer_and_ends_with_usage,
    test_the_curl_line_of_the_banner_works_as_it_is_printed,
)

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(600)]


def table(test: Callable[..., Any], name: str) -> list[Any]:
    """The rows over which one of the guard's tests runs."""
    marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    return next(list(mark.args[1]) for mark in marks if mark.args[0] in (name, (name,), tuple(name.split())))


async def exchange(url: str, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    """Status and JSON of one request whose path is sent as it is."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    start, _, rest = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in start.lower():
        rest = b"".join(rest.split(b"\r\n")[1::2])
    status = int(start.split()[1])
    # What is no HTTP at all HAProxy refuses in words of its own; no client sends it.
    whole = status != 400 or rest.startswith(b"{")
    return status, json.loads(rest or b"{}") if whole else {"error": {"code": "no_http"}}


def ask(server: RayProcess, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """Status and error code."""
    status, answer = asyncio.run(exchange(server.url, method, path, body))
    return status, str(answer.get("error", {}).get("code"))


def test_both_replicas_answer(demo_server: RayProcess) -> None:
    assert len(demo_server.replicas()) == 2
    demo_server.wait_servers(2, timeout=30)  # the proxy learns of each a moment after it runs
    seen = {sample(demo_server) for _ in range(8)}
    assert len(seen) == 2, seen


def sample(server: RayProcess) -> str:
    """Which replica answers: its process's start time stands in its metrics."""
    text = httpx.get(f"{server.url}/metrics", timeout=10).text
    return next(line for line in text.splitlines() if line.startswith("process_start_time_seconds"))


def test_only_loopback_is_listened_on_but_for_ports_that_want_ray_s_token(demo_server: RayProcess) -> None:
    """Ray Serve's replicas listen on all addresses for each other; without this run's token nobody is answered."""
    elsewhere = [
        (child, connection.laddr.port)
        for child in [psutil.Process(demo_server.process.pid), *demo_server.children()]
        for connection in child.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip.removeprefix("::ffff:") != "127.0.0.1"
    ]
    assert {child.pid for child, _ in elsewhere} <= {child.pid for child in demo_server.titled(REPLICA)}
    for _, port in elsewhere:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_guard_blocks_does_not_exist(demo_server: RayProcess, method: str) -> None:
    paths = sorted(path for path in BLOCKED if "{" not in path)
    assert {path: ask(demo_server, method, path, b"{}") for path in paths} == dict.fromkeys(paths, (404, "not_found"))


def test_path_tricks_do_not_exist(demo_server: RayProcess) -> None:
    """Those that are no HTTP are refused by the proxy.

    A blank ends a path, so one at its ends is no part of it, and what does not begin with a slash is none.
    """
    paths = [path for path in test_routing.TRICKS if path.startswith(("/", "http")) and path == path.strip()]
    found = {path: ask(demo_server, "GET", path) for path in paths}
    refused = ((404, "not_found"), (400, "bad_request"), (400, "no_http"))
    assert {path: told for path, told in found.items() if told not in refused} == {}
    assert sum(told == (404, "not_found") for told in found.values()) > 15


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    table(test_routing.test_another_method_is_refused_and_told_which_ones, "method path allow"),
)
def test_another_method_is_refused(demo_server: RayProcess, method: str, path: str, allow: str) -> None:
    # A method in small letters is no HTTP to Ray's server.
    assert ask(demo_server, method, path) == ((405, "method_not_allowed") if method.isupper() else (400, "no_http"))


@pytest.mark.parametrize(
    ("body", "code"),
    [row for row in table(test_bodies.test_what_is_no_good_json_never_reaches_the_engine, "body code")],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else value,
)
def test_what_is_no_good_json_is_refused(demo_server: RayProcess, body: bytes, code: str) -> None:
    assert ask(demo_server, "POST", CHAT, body) == (413 if code == "body_too_large" else 400, code)


def test_an_answer_has_one_request_id_and_does_not_say_what_serves(demo_server: RayProcess) -> None:
    headers = httpx.get(f"{demo_server.url}/v1/models", headers={"x-request-id": "abc-1"}, timeout=10).headers
    assert headers.get_list("x-request-id") == ["abc-1"]
    assert "server" not in headers


def test_requests_have_their_line_on_the_console(demo_server: RayProcess) -> None:
    httpx.get(f"{demo_server.url}/v1/models", headers={"x-request-id": "line-1"}, timeout=10)
    demo_server.wait_for("GET /v1/models 200 id=line-1", timeout=10)
    assert "Traceback" not in demo_server.screen()
