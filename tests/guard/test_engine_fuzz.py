"""Bad input to the real server: from its own OpenAPI document, and as bytes that are no request at all.

Nothing a client sends may end in a 5xx, hang, cost the server's memory, or keep the next good request from its answer.
"""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode

from serving.guard.routes import ROUTES, Access
from tests.guard.wire_cases import CHAT, MODEL, WireCase, wire_cases
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.engine, pytest.mark.slow]
# Enough per route and mode for 2,000 in all; enough kinds of bytes for 5,000.
EXAMPLES, WIRE_CASES, SEED = 145, 5100, 4
AT_A_TIME = 24
HANG_SECONDS = 20.0
QUIET_SECONDS = 1.0
MEMORY_BYTES = 50 * 1024 * 1024

OPENAPI = """
import json
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

args = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", "x"])
print(json.dumps(build_app(args, ("generate",), None).openapi()))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The demo with short answers, so that thousands of requests take minutes; one to warm it up."""
    short = ["--max-tokens", "8", "--max-model-len", "512", "--body-timeout", "3", "--log-format", "none"]
    server = ServerProcess(short, tmp_path_factory.mktemp("fuzz"))
    try:
        good(server.wait_ready(), 6 * HANG_SECONDS)  # the first one warms it up
        yield server
    finally:
        assert server.stop() == 0


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The engine's own description of the inference routes. The server does not serve it, so the app is built here."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", OPENAPI], capture_output=True, text=True, check=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    # The guard answers /status itself.
    inference = {route.path for route in ROUTES if route.access is Access.INFERENCE} - {"/status"}
    return {**found, "paths": {path: found["paths"][path] for path in inference}}


def good(server: ServerProcess, seconds: float = HANG_SECONDS) -> None:
    """A good request is answered."""
    sent = urllib.request.Request(
        f"{server.url}/v1/chat/completions", json.dumps(CHAT).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(sent, timeout=seconds) as answer:
        assert json.load(answer)["choices"]


def examples(operation: Any, mode: GenerationMode) -> list[Case]:
    """Cases for one operation: right by the document, or wrong."""
    cases: list[Case] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def collect(case: Case) -> None:
        cases.append(case)

    collect()
    return cases


def from_schema(document: dict[str, Any]) -> list[tuple[str, Case]]:
    """Cases with names, of both modes for every operation that takes a body. /v1/models cannot be asked wrongly."""
    operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
    return [
        (f"{mode.value} {operation.label}", case)
        for operation in operations
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if mode is GenerationMode.POSITIVE or operation.body
        for case in examples(operation, mode)
    ]


def prepared(case: Case, url: str, place: int) -> dict[str, Any]:
    """The case as arguments of a request. Two thirds of them ask for the model that is there, to get any further."""
    if isinstance(case.body, dict) and place % 3:
        case.body["model"] = MODEL
    sent = case.as_transport_kwargs(base_url=url)
    kept = {name: sent[name] for name in ("method", "url", "params", "headers", "json", "data") if sent.get(name)}
    kept["headers"] = {name: value for name, value in kept["headers"].items() if name.lower() != "content-length"}
    return kept


async def send_all(url: str, cases: Sequence[tuple[str, Case]]) -> list[tuple[str, int, str]]:
    """(name, status, body) of each answer."""
    gate = asyncio.Semaphore(AT_A_TIME)
    timeout = aiohttp.ClientTimeout(total=6 * HANG_SECONDS)

    async def one(session: aiohttp.ClientSession, place: int, name: str, case: Case) -> tuple[str, int, str]:
        async with gate, session.request(**prepared(case, url, place)) as answer:
            return name, answer.status, (await answer.read()).decode()

    async with aiohttp.ClientSession(timeout=timeout) as session:
        return await asyncio.gather(*(one(session, place, *case) for place, case in enumerate(cases)))


def test_requests_from_the_openapi_document(server: ServerProcess, document: dict[str, Any]) -> None:
    memory = psutil.Process(server.process.pid).memory_info().rss
    cases = from_schema(document)
    assert len(cases) >= 2000
    answers = asyncio.run(send_all(server.url, cases))
    assert [answer for answer in answers if answer[1] >= 500] == []
    for name, status, body in answers:
        if status >= 400:
            assert json.loads(body)["error"]["message"], (name, status, body)
    assert Counter(status for _, status, _ in answers)[200] > 200
    good(server)
    assert psutil.Process(server.process.pid).memory_info().rss - memory < MEMORY_BYTES


async def wire(port: int, case: WireCase) -> bytes:
    """All that the server answers until it closes. What waits for more is told, a moment later, that none will come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(case.sent)
        if case.half_close:
            writer.write_eof()
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                try:
                    chunk = await asyncio.wait_for(reader.read(65536), QUIET_SECONDS)
                except TimeoutError:
                    if writer.can_write_eof() and not writer.is_closing():
                        writer.write_eof()
                    continue
                if not chunk:
                    return answer
                answer += chunk
    except TimeoutError:
        raise
    except OSError:  # closed on bytes that it did not read any more
        return answer
    finally:
        writer.close()


async def wire_all(server: ServerProcess, cases: Sequence[WireCase]) -> list[tuple[WireCase, bytes]]:
    """What came back for each."""
    port = int(server.url.rpartition(":")[2])
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(case: WireCase) -> tuple[WireCase, bytes]:
        async with gate:
            return case, await wire(port, case)

    return await asyncio.gather(*(one(case) for case in cases))


def status(answer: bytes) -> int:
    """The status that an answer begins with; 0 for none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0


def test_bytes_that_are_no_good_request(server: ServerProcess) -> None:
    process = psutil.Process(server.process.pid)
    cases = wire_cases(WIRE_CASES, SEED)
    asyncio.run(wire_all(server, cases[:100]))
    memory = process.memory_info().rss
    for first in range(0, len(cases), 1000):
        answers = asyncio.run(wire_all(server, cases[first : first + 1000]))
        failed = [(case.kind, case.sent[:400], answer[:400]) for case, answer in answers if status(answer) >= 500]
        assert failed == []
        assert not [case for case, answer in answers if b"xuanyuan_requests_total" in answer], "smuggled to /metrics"
        good(server)
    assert process.memory_info().rss - memory < MEMORY_BYTES
