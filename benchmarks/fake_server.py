"""A server with known latencies and a known capacity, to measure the load generator against.

    python -m benchmarks.fake_server --slots 8 --ttft-ms 50 --tpot-ms 10

It answers every request with as many tokens as were asked for. A request waits for one of `slots` places in the order
of arrival, its first token comes `ttft` after that, each later one `tpot` after the one before: the capacity is exactly
slots / (ttft + (tokens - 1) * tpot) requests a second.
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

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"get"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(MODELS), MODELS))
                    continue
                length = int(head.split(b"content-length:")[1].split(b"\r\n", 1)[0])
                await self.answer(json.loads(await reader.readexactly(length)), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(self, body: dict[str, object], writer: asyncio.StreamWriter) -> None:
        """Stream one answer at its pace, counted from when it got its place, so that delays do not add up."""
        count, prompt = body["max_tokens"], body.get("prompt", "")
        assert isinstance(count, int) and isinstance(prompt, list | str)
        async with self.places:
            time = asyncio.get_running_loop().time
            due = time() + self.behaviour.ttft
            await asyncio.sleep(due - time())
            writer.write(HEAD)
            for _ in range(count - 1):
                writer.write(TOKEN)
                due += self.behaviour.tpot
                await asyncio.sleep(due - time())
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
