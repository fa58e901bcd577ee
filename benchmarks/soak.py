"""The server under mixed load for long: whether memory, file descriptors and latency stay where they are.

    python -m benchmarks soak --minutes 20 --out soak

Starts the launcher, and at it: users that stream answers, users that want them whole, users that leave in the middle,
bad requests, and connections that say nothing. Every few seconds a sample is taken. Writes soak.json and a picture,
soak.svg, into --out; the last line on stdout is one JSON object.
"""

import asyncio
import itertools
import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import aiohttp

from benchmarks.__main__ import main
from benchmarks.client import Call
from benchmarks.console import finish, log, table
from benchmarks.options import positive, positive_float
from benchmarks.processes import Running, running
from benchmarks.soak_chart import picture
from benchmarks.systems import named, recipe
from benchmarks.workload import finance

SAMPLE_SECONDS = 5.0
QUESTIONS = 400
BAD_BODIES = (b"{", b'{"model": 1e999}', b'{"messages": "x"}', b"[" * 100_000, b"\xff\xfe", b'{"n": 99999}')
# From the first half (after its first half, which fills caches) to the last quarter, no more than this is flat.
ALLOWED = {"memory_mb": 1.05, "descriptors": 1.05, "latency_ms": 1.25}


@dataclass(frozen=True)
class Sample:
    """The server at one moment: PSS of all its processes, file descriptors of the API process, median latency."""

    minutes: float
    memory_mb: float
    descriptors: int
    latency_ms: float


@dataclass
class Seen:
    """What the users saw: outcomes by kind, and the times to first bytes since the last sample, in ms."""

    outcomes: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)


class Soak:
    """The users of one server. Each asks again and again until it is cancelled."""

    def __init__(self, target: Running, seed: int) -> None:
        self.url = target.server.url
        questions = finance(QUESTIONS, seed, ("zh", "en"), None)
        self.calls = itertools.cycle([question.call(target.model, ignore_eos=False) for question in questions])
        self.seen = Seen()

    async def forever(self, session: aiohttp.ClientSession, act: Callable[..., Awaitable[str]]) -> None:
        """One user. What goes wrong is counted, not raised."""
        while True:
            try:
                outcome = await act(session, next(self.calls))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                outcome = type(error).__name__
                await asyncio.sleep(1)
            self.seen.outcomes[f"{act.__name__}: {outcome}"] += 1

    async def stream(self, session: aiohttp.ClientSession, call: Call) -> str:
        """Read an answer as it comes."""
        started = time.perf_counter()
        async with session.post(self.url + call.path, data=call.body) as answer:
            first = await answer.content.readany()
            self.seen.waits.append(1e3 * (time.perf_counter() - started))
            rest = await answer.read()
            return "done" if (first + rest).rstrip().endswith(b"[DONE]") else f"cut off, HTTP {answer.status}"

    async def whole(self, session: aiohttp.ClientSession, call: Call) -> str:
        """Wait for a whole answer."""
        document = {**json.loads(call.body), "stream": False}
        del document["stream_options"]
        async with session.post(self.url + call.path, json=document) as answer:
            await answer.read()
            return f"HTTP {answer.status}"

    async def leave(self, session: aiohttp.ClientSession, call: Call) -> str:
        """Leave after the first token."""
        async with session.post(self.url + call.path, data=call.body) as answer:
            await answer.content.readany()
            answer.close()
            return f"HTTP {answer.status}"

    async def misbehave(self, session: aiohttp.ClientSession, call: Call) -> str:
        """Send what is no good request."""
        for body in BAD_BODIES:
            async with session.post(self.url + call.path, data=body) as answer:
                await answer.read()
                if answer.status != 400:
                    return f"HTTP {answer.status}"
        await asyncio.sleep(0.5)
        return "HTTP 400"

    async def idle(self, session: aiohttp.ClientSession, call: Call) -> str:
        """Connect twenty times, say nothing, and hang up."""
        address = urlsplit(self.url)
        opened = [await asyncio.open_connection(address.hostname, address.port) for _ in range(20)]
        await asyncio.sleep(3)
        for _, writer in opened:
            writer.close()
        return "done"

    async def run(self, target: Running, users: int, seconds: float) -> list[Sample]:
        """All users at once for so long, and a sample every few seconds."""
        samples: list[Sample] = []
        acts = [self.stream] * users + [self.whole, self.whole, self.leave, self.misbehave, self.idle]
        headers = {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
            tasks = [asyncio.create_task(self.forever(session, act)) for act in acts]
            started = time.monotonic()
            while (now := time.monotonic() - started) < seconds:
                await asyncio.sleep(SAMPLE_SECONDS)
                samples.append(sample(target, now / 60, self.seen))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return samples


def sample(target: Running, minutes: float, seen: Seen) -> Sample:
    """Look at the server now."""
    waits, seen.waits = seen.waits, []
    descriptors = target.process.num_fds() if target.process else 0
    return Sample(minutes, target.memory() / 1e6, descriptors, median(waits) if waits else 0.0)


def middle(samples: Sequence[Sample], name: str) -> float:
    """The median of a figure over the samples that have it: in one of a starved server no answer may have begun."""
    values: list[float] = [value for item in samples if (value := getattr(item, name))]
    return median(values) if values else 0.0


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Of each figure: its median in the last quarter over that in the second one."""
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[-quarter:]
    return {name: middle(after, name) / (middle(before, name) or 1.0) for name in ALLOWED}


def chart(samples: Sequence[Sample]) -> str:
    """The samples as one SVG file."""
    titles = {
        "memory_mb": "memory of all processes, MB (PSS)",
        "descriptors": "open file descriptors of the server process",
        "latency_ms": "time to the first token, median of 5 s, ms",
    }
    return picture({title: [(item.minutes, getattr(item, name)) for item in samples] for name, title in titles.items()})


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--minutes", type=positive_float, default=20, help="(default: %(default)s)")
    parser.add_argument("--users", type=positive, default=8, help="that stream (default: %(default)s)")
    parser.add_argument("--model", help="catalog name, local folder or hub id; default: the demo")
    parser.add_argument("--out", type=Path, default=Path("soak"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)


def run(args: Namespace) -> int:
    """Soak one server and write down how it did."""
    args.out.mkdir(parents=True, exist_ok=True)
    with running(named("launcher", recipe(args.model), args.model), args.out) as target:
        log(f"{args.users + 5} users for {args.minutes:g} minutes …")
        soak = Soak(target, args.seed)
        samples = asyncio.run(soak.run(target, args.users, 60 * args.minutes))
    (args.out / "soak.svg").write_text(chart(samples), encoding="utf-8")
    grown = growth(samples)
    result = {
        "minutes": args.minutes,
        "growth": grown,
        "flat": all(grown[name] <= most for name, most in ALLOWED.items()),
        "outcomes": dict(soak.seen.outcomes),
    }
    (args.out / "soak.json").write_text(json.dumps(result | {"samples": [asdict(item) for item in samples]}))
    rows: list[list[object]] = [["", "last quarter over the second", "allowed"]]
    rows += [[name, f"{grown[name]:.3f}", f"{most:.2f}"] for name, most in ALLOWED.items()]
    rows += [[kind, count, ""] for kind, count in sorted(soak.seen.outcomes.items())]
    finish(result, table(rows), only_json=args.json)
    return 0


if __name__ == "__main__":
    # The same as `python -m benchmarks soak`.
    sys.exit(main(["soak", *sys.argv[1:]]))
