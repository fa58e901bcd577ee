"""The generator and its commands against a server with known latencies, over real sockets."""

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.arrivals import arrivals
from benchmarks.block import Block, run_block
from benchmarks.capacity import Probe, judge, requests_for, search
from benchmarks.client import Call, Server
from benchmarks.fake_server import MODEL, Behaviour, chunk, running
from benchmarks.metrics import Slo
from benchmarks.workload import synthetic
from tests.benchmarks.conftest import BEHAVIOUR, TOLERANT, exit_code

ROOT = Path(__file__).parents[2]


def calls(count: int, tokens: int) -> list[Call]:
    return [question.call(MODEL, ignore_eos=True) for question in synthetic(count, 30, tokens, 0)]


def test_a_closed_loop_measures_the_servers_latencies(fake_url: str) -> None:
    block = run_block(Server(fake_url), calls(8, 11), concurrency=4, slo=Slo(), limits=TOLERANT)
    row = block.summary()
    assert (row["completed"], row["total_output_tokens"], row["total_input_tokens"]) == (8, 88, 240)
    # At least what the server waits; a busy machine adds to it.
    assert 20 <= row["median_ttft_ms"] < 500 and 4.5 <= row["median_tpot_ms"] < 50
    assert "mean_itl_ms" in row and block.void == []


def test_requests_leave_when_due_and_their_wait_is_counted_from_then(fake_url: str) -> None:
    """Twelve requests at once on four places: the last four wait for two others, and it shows."""
    block = run_block(Server(fake_url), calls(12, 9), times=[0.05] * 12, slo=Slo(), limits=TOLERANT)
    waits = sorted(item.slo_ttft for item in block.outcomes)
    one = BEHAVIOUR.ttft + 8 * BEHAVIOUR.tpot
    # At least what the server waits; a busy machine adds to it.
    assert BEHAVIOUR.ttft <= waits[0] < BEHAVIOUR.ttft + one
    assert 2 * one + BEHAVIOUR.ttft <= waits[-1] < 2 * one + BEHAVIOUR.ttft + 1
    assert all(item.start >= 0.05 for item in block.outcomes)


def test_an_open_loop_keeps_its_times(fake_url: str) -> None:
    times = arrivals(30, 60, seed=2)
    block = run_block(Server(fake_url), calls(30, 2), times=times, slo=Slo(), limits=TOLERANT)
    due = [item.start - item.send_lag for item in block.outcomes]
    assert [b - a for a, b in zip(times, due, strict=True)] == pytest.approx([due[0] - times[0]] * 30, abs=1e-3)


def answering(reply: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    return connected


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", "ServerDisconnectedError"),
        (HEAD + b'1d\r\ndata: {"choices":[{"text":"a"', "ClientPayloadError"),
        (HEAD + chunk(b'{"choices":[{"text":"a"}]}') + b"0\r\n\r\n", "the stream ended without an end"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "HTTP 503: busy"),
    ],
)
def test_a_server_that_breaks_off(reply: bytes, error: str) -> None:
    def block(url: str) -> Block:
        return run_block(Server(url), calls(1, 2), slo=Slo(), limits=TOLERANT)

    async def both() -> Block:
        server = await asyncio.start_server(answering(reply), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(block, f"http://127.0.0.1:{port}")

    found = asyncio.run(both())
    assert found.outcomes[0].error.startswith(error)
    assert bool(found.void) is not error.startswith("HTTP")


@pytest.mark.parametrize(("number", "concurrency", "reconnects"), [(4, 1, 2), (3, 2, 1)])
def test_a_kept_connection_that_the_server_closes_is_no_failure(number: int, concurrency: int, reconnects: int) -> None:
    """llama.cpp's server does that: a call that finds it closed goes over a new one, for other kept ones may be too."""
    tokens = b"".join(chunk(b'{"choices":[{"text":"a"}]}') for _ in range(2))
    whole = HEAD + tokens + chunk(b"[DONE]") + b"0\r\n\r\n"

    everybody, waited_for = asyncio.Event(), concurrency

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await body(reader)
        # The first ones wait for each other, so that all their connections are kept at once.
        nonlocal waited_for
        waited_for -= 1
        if waited_for == 0:
            everybody.set()
        await everybody.wait()
        writer.write(whole)
        await body(reader)
        writer.close()

    async def body(reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))

    async def both() -> Block:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ask = partial(run_block, concurrency=concurrency, slo=Slo(), limits=TOLERANT)
            return await asyncio.to_thread(ask, Server(url), calls(number, 2))

    row = asyncio.run(both()).summary()
    # Each kept connection serves one call, and closes at the next: that one is sent again.
    assert (row["completed"], row["failed"], row["reconnects"]) == (number, 0, reconnects)


def test_a_server_that_is_not_there() -> None:
    block = run_block(Server("http://127.0.0.1:1"), calls(1, 2), slo=Slo(), limits=TOLERANT)
    assert "ClientConnectorError" in block.outcomes[0].error and block.void


def test_load_prints_one_json_object_with_vllm_benchs_names(
    fake_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    detailed = tmp_path / "all.json"
    words = f"load --url {fake_url}/v1 --concurrency 2 --num-prompts 4 --output-len 3 --slo ttft=5s"
    words += f" --save-detailed {detailed}"
    assert main(words.split()) == 0
    shown = capsys.readouterr().out.splitlines()
    result = json.loads(shown[-1])
    assert (result["completed"], result["max_concurrency"], result["request_rate"]) == (4, 2, "inf")
    assert result["attainment"] == 1.0 and len(shown) > 5
    assert json.loads(detailed.read_text())["output_lens"] == [3] * 4
    assert main([*words.split(), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.slow
def test_a_known_capacity_is_found_over_real_sockets() -> None:
    """Twenty places of 400 ms make 50 requests a second."""
    behaviour, slo = Behaviour(slots=20, ttft=0.1, tpot=0.1), Slo(ttft=0.3)
    with running(behaviour) as url:

        def probe(rate: float) -> Probe:
            count = requests_for(rate, 0.9, 3)
            times = arrivals(count, rate, burstiness=math.inf)
            block = run_block(Server(url), calls(count, 4), times=times, slo=slo, limits=TOLERANT)
            return judge(rate, block.outcomes, slo, 0.9)

        found = search(probe, 30)
    assert behaviour.capacity(4) == pytest.approx(50)
    assert 0.9 * 50 <= found.low <= 1.02 * 50 and found.high <= 1.1 * found.low


def test_capacity_prints_users(fake_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        f"capacity --url {fake_url} --output-len 9 --slo ttft=500ms --attain 0.5 --seconds 0.3 --start-rate 60 --json"
    )
    assert main([*words.split(), "--think-time", "10"]) == 0
    result = json.loads(capsys.readouterr().out)
    low, high = result["capacity_interval"]
    assert result["users"] == result["users_interval"][0] == pytest.approx(low * 10, rel=0.2)
    assert {probe["rate"] for probe in result["probes"]} >= {60.0, low, high}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("nothing", 2, "no command 'nothing'"),
        ("load --urll x", 2, "did you mean --url?"),
        ("load --rate 1 --concurrency 2", 2, "not allowed with"),
        ("load --url http://127.0.0.1:1", 3, "http://127.0.0.1:1/v1/models"),
        ("load --dataset-name file --model m", 3, "--dataset-path goes with"),
        ("load --slo fast", 2, "--slo"),
        ("load --api-key-file /nowhere", 3, "--api-key-file /nowhere: No such file"),
        ("capacity --attain 95", 3, "--attain 95"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(
    words: str, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exit_code(words)
    shown = capsys.readouterr().err
    assert found == code and text in shown and shown.count("\n") == 1


def test_the_generator_imports_no_torch_and_nothing_of_the_launcher() -> None:
    code = "import sys, benchmarks.commands.load, benchmarks.commands.capacity as c; print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout.replace("'", '"'))}
    assert not loaded & {"torch", "vllm", "transformers", "ray", "serving", "chat_template"}
