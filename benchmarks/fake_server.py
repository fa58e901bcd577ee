"""A server with known latencies and a known capacity, to measure the load generator against.

    python -m benchmarks.fake_server --slots 8 --ttft-ms 50 --tpot-ms 10

It answers every request with as many tokens as were asked for, and /metrics with a few of vLLM's metrics. A request
waits for one of `slots` places in the order of arrival, its first token comes `ttft` after that, each later one `tpot`
after the one before: the capacity is exactly slots / (ttft + (tokens - 1) * tpot) requests a second.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODEL = "fake"


@dataclass(frozen=True)
class Behaviour:
    """Places, and seconds to the first token and between tokens."""

    slots: int
    ttft: float
    tpot: float

    def capacity(self, tokens: int) -> float:
        """Requests a second."""
        return self.slots / (self.ttft + (tokens - 1) * self.tpot)


def chunk(data: bytes) -> bytes:
    """One event as one chunk of a chunked HTTP body."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def token(reason: str | None = None) -> bytes:
    """One token, about as long as the engine's events are."""
    choice = {"index": 0, "text": " token", "logprobs": None, "finish_reason": reason, "stop_reason": None}
    head = {"id": "cmpl-0123456789abcdef0123456789abcdef", "object": "text_completion", "created": 1, "model": MODEL}
    return chunk(json.dumps({**head, "choices": [choice], "usage": None}).encode())


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMERS = ("request_queue_time", "request_prefill_time", "request_decode_time", "e2e_request_latency")
TOKEN, LAST_TOKEN = token(), token("length")
MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "root": MODEL}]}).encode()


def usage(prompt: int, completion: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chunk(json.dumps({"choices": [], "usage": counts}).encode())


class FakeServer:
    """Serves connections of HTTP/1.1 with keep-alive; understands no more of HTTP than the client sends."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.places = asyncio.Semaphore(behaviour.slots)
        self.open = self.running = self.done = 0
        self.seconds = dict.fromkeys(TIMERS, 0.0)

    def metrics(self) -> bytes:
        """In the text format of Prometheus, under vLLM's names."""
        values: dict[str, float] = {
            "num_requests_running": self.running,
            "num_requests_waiting": self.open - self.running,
            "kv_cache_usage_perc": self.running / self.behaviour.slots,
            "num_preemptions_total": 0,
        }
        for name, seconds in self.seconds.items():
            values |= {f"{name}_seconds_sum": seconds, f"{name}_seconds_count": self.done}
        return "".join(f'vllm:{name}{{engine="0"}} {value}\n' for name, value in values.items()).encode()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"get"):
                    body = self.metrics() if head.startswith(b"get /metrics ") else MODELS
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                    continue
                length = int(head.split(b"content-length:")[1].split(b"\r\n", 1)[0])
                await self.answer(json.loads(await reader.readexactly(length)), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def count(self, waited: float, ran: float) -> None:
        """Add a request that is done to the timers."""
        self.done += 1
        prefill = self.behaviour.ttft
        for name, seconds in zip(TIMERS, (waited, prefill, ran - prefill, waited + ran), strict=True):
            self.seconds[name] += seconds

    async def answer(self, body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        """Stream one answer at its pace, counted from when it got its place, so that delays do not add up."""
        count, prompt = body["max_tokens"], body.get("prompt", "")
        assert isinstance(count, int) and isinstance(prompt, list | str)
        time = asyncio.get_running_loop().time
        came = time()
        self.open += 1
        async with self.places:
            self.running += 1
            began = time()
            due = began + self.behaviour.ttft
            await asyncio.sleep(due - time())
            writer.write(HEAD)
            for _ in range(count - 1):
                writer.write(TOKEN)
                due += self.behaviour.tpot
                await asyncio.sleep(due - time())
            self.running -= 1
        self.open -= 1
        self.count(began - came, time() - began)
        writer.write(LAST_TOKEN + usage(len(prompt), count) + chunk(b"[DONE]") + b"0\r\n\r\n")


async def serve(behaviour: Behaviour, port: int) -> None:
    """Serve until the process ends; the first line on stdout is the URL."""
    server = await asyncio.start_server(FakeServer(behaviour).connected, "127.0.0.1", port, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def running(behaviour: Behaviour) -> Iterator[str]:
    """The URL of a fake server in a process of its own, ended with the block."""
    options = ["--slots", behaviour.slots, "--ttft-ms", 1000 * behaviour.ttft, "--tpot-ms", 1000 * behaviour.tpot]
    command = [sys.executable, "-m", "benchmarks.fake_server", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--ttft-ms", type=float, default=50.0)
    parser.add_argument("--tpot-ms", type=float, default=10.0)
    args = parser.parse_args()
    asyncio.run(serve(Behaviour(args.slots, args.ttft_ms / 1000, args.tpot_ms / 1000), args.port))


if __name__ == "__main__":
    main()
