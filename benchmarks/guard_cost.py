"""What the guard costs a request: the same app with and without it, in one process, at a fixed rate of requests.

Three arms take turns, a second each: `bare` (the app alone), `again` (the app alone once more: the noise), `guard`
(with keys, rates, line, deadlines and a JSON log). A request comes every 1/RATE s whether or not the last one is done.
Prints a table, then one JSON line.
"""

import argparse
import asyncio
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.guard import Guard
from serving.guard.settings import GuardSettings
from serving.keys import Key, add, digest

PATH = "/v1/chat/completions"
EVENT = b'data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"content":" token"}}],"usage":{"prompt_tokens":400,"total_tokens":402,"completion_tokens":2}}\n\n'  # noqa: E501
ANSWER = (
    b'{"choices":[{"message":{"content":"'
    + b"word " * 400
    + b'"}}],"usage":{"prompt_tokens":400,"completion_tokens":64}}'
)
Arms = dict[str, ASGIApp]


class Times(NamedTuple):
    """Milliseconds of one request: by the clock, and of this thread's processor time.

    They differ where another process had the core, which says nothing about the guard.
    """

    wall: float
    cpu: float


async def stub(scope: Scope, receive: Receive, send: Send) -> None:
    """An engine that takes no time: a JSON answer, or a stream of as many events as the request's max_tokens."""
    request = json.loads((await receive())["body"])
    kind = b"text/event-stream" if request["stream"] else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if request["stream"]:
        for _ in range(request["max_tokens"]):
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": ANSWER})


async def request(app: ASGIApp, secret: str, body: bytes) -> Times:
    """What one request takes in the app."""
    waiting: list[Message] = [{"type": "http.request", "body": body}]
    status: list[int] = []

    async def receive() -> Message:
        return waiting.pop()

    async def send(message: Message) -> None:
        status.append(message.get("status", 0))

    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"authorization", f"Bearer {secret}".encode()),
    ]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "method": "POST", "path": PATH, "raw_path": PATH.encode(),
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    wall, cpu = time.perf_counter(), time.thread_time()
    await app(scope, receive, send)
    times = Times(1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - cpu))
    if status[0] != 200:
        raise RuntimeError(f"answered {status[0]}")
    return times


async def second(app: ASGIApp, secret: str, body: bytes, rate: int) -> list[Times]:
    """One second of requests at a fixed rate."""
    tasks: list[asyncio.Task[Times]] = []
    started = time.perf_counter()
    for index in range(rate):
        await asyncio.sleep(max(0.0, started + index / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(request(app, secret, body)))
    return list(await asyncio.gather(*tasks))


async def measure(arms: Arms, secret: str, body: bytes, rate: int, seconds: int) -> dict[str, dict[str, float]]:
    """Of each arm: median and 99th percentile of the time, and of the processor time within it."""
    times: dict[str, list[Times]] = {name: [] for name in arms}
    for turn in range(seconds + 1):
        for name, app in arms.items():
            found = await second(app, secret, body, rate)
            times[name] += found if turn else []  # the first turn warms up
    return {name: percentiles(found) for name, found in times.items()}


def percentiles(times: list[Times]) -> dict[str, float]:
    """Median and 99th percentile of both kinds of time."""
    wall, cpu = (statistics.quantiles(found, n=100) for found in zip(*times, strict=True))
    return {"p50_ms": wall[49], "p99_ms": wall[98], "cpu_p50_ms": cpu[49], "cpu_p99_ms": cpu[98]}


def guarded(folder: Path) -> tuple[Guard, str]:
    """The guard with everything switched on, around the stub, and a key to it."""
    file = folder / "keys"
    secret = add(file, Key("alice", digest(""), requests_per_minute=10**7, tokens_per_minute=10**9))
    settings = GuardSettings(keys_file=str(file), log_format="json", max_num_seqs=256, max_concurrent_requests=10**5)
    return Guard(stub, settings), secret


async def run(rate: int, seconds: int, events: int) -> dict[str, dict[str, dict[str, float]]]:
    """The times of each arm, for an answer in JSON and for a stream."""
    with tempfile.TemporaryDirectory() as folder:
        guard, secret = guarded(Path(folder))
        arms: Arms = {"bare": stub, "again": stub, "guard": guard}
        result = {}
        for kind in ("json", "stream"):
            prompt = [{"role": "user", "content": "word " * 400}]
            fields = {"model": "m", "messages": prompt, "max_tokens": events, "stream": kind == "stream"}
            result[kind] = await measure(arms, secret, json.dumps(fields).encode(), rate, seconds)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=1000, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds of each arm (default: %(default)s)")
    parser.add_argument("--events", type=int, default=16, help="events of a stream (default: %(default)s)")
    args = parser.parse_args()
    with contextlib.redirect_stderr(io.StringIO()):  # the access log is written, but not to a terminal
        result = asyncio.run(run(args.rate, args.seconds, args.events))
    print(f"{'ms':>8}{'':>8}{'p50':>9}{'p99':>9}{'cpu p50':>9}{'cpu p99':>9}")
    summary: dict[str, object] = vars(args)
    for kind, arms in result.items():
        for name, times in arms.items():
            print(f"{kind:>8}{name:>8}" + "".join(f"{value:>9.3f}" for value in times.values()))
        overhead = {
            f"overhead_{which}": arms["guard"][which] - arms["bare"][which] for which in ("p99_ms", "cpu_p99_ms")
        }
        print(f"{kind:>8}: the guard adds {overhead['overhead_p99_ms']:.3f} ms to the 99th percentile")
        summary[kind] = {**arms, **overhead}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
