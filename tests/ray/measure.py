"""What docs/ray.md says in figures: `python -m tests.ray.measure overhead|routing|scaling …`, on a quiet machine.

Each prints JSON lines. overhead: the launcher against Ray with one replica, both up, measured in turn. routing: talks
of several turns over replicas. scaling: a load step, the replicas as they come and go, as a plot.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.family import make_family_checkpoint
from tests.ray.load import Load
from tests.ray.ray_process import CONTROLLER, ROUTER, RayProcess, small_args
from tests.server_process import ServerProcess

HITS = re.compile(r"^vllm:prefix_cache_(hits|queries)_total\{.*?\} ([\d.e+]+)$", re.MULTILINE)
WORDS = ("bond", "stock", "rate", "bank", "yield", "loan", "fund", "risk", "price", "trade", "asset", "credit")


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "routing", "scaling"))
    parser.add_argument("--rounds", type=int, default=3, help="overhead: blocks of each at each concurrency")
    parser.add_argument("--replicas", type=int, default=2, help="routing")
    parser.add_argument("--routing", nargs="+", default=["round_robin", "least_loaded", "prefix", "session"])
    parser.add_argument("--layers", type=int, default=4, help="routing, scaling: of the small checkpoint")
    parser.add_argument("--plot", type=Path, help="scaling: an SVG file")
    args = parser.parse_args()
    {"overhead": overhead, "routing": routing, "scaling": scaling}[args.what](args)


@contextmanager
def up(server: ServerProcess) -> Iterator[ServerProcess]:
    """A server while the block runs."""
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def folder() -> Path:
    """A folder of this run's own."""
    return Path(tempfile.mkdtemp(prefix="measure-"))


def overhead(args: argparse.Namespace) -> None:
    """The demo with one replica against the launcher; and what Ray's own processes take of the processor for it."""
    common = [
        "--enforce-eager",
        "--max-model-len",
        "2048",
        "--kv-cache-memory-bytes",
        "100000000",
        "--log-format",
        "none",
    ]
    with up(ServerProcess(common, folder())) as direct, up(RayProcess(["--replicas", "1", *common], folder())) as ray:
        assert isinstance(ray, RayProcess)
        for turn in range(args.rounds):
            for concurrency in (1, 8):
                pair = (("launcher", direct), ("ray", ray))
                for name, server in pair if turn % 2 == 0 else pair[::-1]:
                    before, began = cpu_seconds(ray), time.monotonic()
                    row = {"system": name, "concurrency": concurrency, **block(server.url, concurrency)}
                    used = {part: round(seconds - before[part], 3) for part, seconds in cpu_seconds(ray).items()}
                    row |= {"seconds": round(time.monotonic() - began, 1), "cpu_seconds_of_ray": used}
                    print(json.dumps(row), flush=True)
        pss = {name: memory(server.process.pid) for name, server in (("launcher", direct), ("ray", ray))}
        print(json.dumps({"memory_bytes": pss}), flush=True)


def cpu_seconds(server: RayProcess) -> dict[str, float]:
    """Processor time of the parts beside the replica so far."""
    titles = {"haproxy": "haproxy.safe.cfg", "router": ROUTER, "controller": CONTROLLER, "gcs": "gcs_server"}
    return {part: sum(sum(p.cpu_times()[:2]) for p in server.titled(title)) for part, title in titles.items()}


def memory(pid: int) -> int:
    """Bytes of a process and all below it; what they share is counted once."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().pss for process in family)


def block(url: str, concurrency: int) -> dict[str, Any]:
    """One block of the load generator."""
    command = [sys.executable, "-m", "benchmarks", "load", "--url", url, "--concurrency", str(concurrency), "--json"]
    command += ["--num-prompts", str(8 if concurrency == 1 else 40), "--num-warmups", str(concurrency)]
    command += ["--input-len", "100", "--output-len", "64", "--client-cpu", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: found[name] for name in ("output_throughput", "median_ttft_ms", "median_tpot_ms") if name in found}


def few_layers(layers: int) -> list[str]:
    """The family's architecture with few layers and random weights."""
    path = make_family_checkpoint(folder() / "XuanYuan-small-Chat", layers=layers)
    args = small_args(path, "--log-format", "none")
    return [*args, "--replica-cpus", "0.5", "--kv-cache-memory-bytes", "150000000"]


def routing(args: argparse.Namespace) -> None:
    """Talks over the replicas, with each way to route."""
    small = few_layers(args.layers)
    for name in args.routing:
        with up(RayProcess([*small, "--replicas", str(args.replicas), "--routing", name], folder())) as server:
            assert isinstance(server, RayProcess)
            asyncio.run(talks(server.url, 4, seed=1))
            before = prefix_cache(server)
            first = asyncio.run(talks(server.url, 24, seed=2))
            after = prefix_cache(server)
        hits, queries = (sum(a) - sum(b) for a, b in zip(after, before, strict=True))
        row = {"routing": name, "replicas": args.replicas, "hit_rate": round(hits / queries, 3)}
        row |= {"ttft_median_ms": round(statistics.median(first), 1), "ttft_p90_ms": round(quantile(first, 0.9), 1)}
        print(
            json.dumps({**row, "share": [round(q - p) for q, p in zip(after[1], before[1], strict=True)]}), flush=True
        )


def quantile(values: list[float], share: float) -> float:
    """The value below which that share lies."""
    return sorted(values)[int(share * (len(values) - 1))]


def prefix_cache(server: RayProcess) -> tuple[list[float], list[float]]:
    """Tokens found in the prefix cache, and looked for, of each replica."""
    found: tuple[list[float], list[float]] = ([], [])
    for replica in sorted(server.replicas(), key=lambda process: process.pid):
        text = next(filter(None, (metrics(port) for port in ports(replica))))
        values = {name: float(value) for name, value in HITS.findall(text)}
        found[0].append(values["hits"])
        found[1].append(values["queries"])
    return found


def ports(process: psutil.Process) -> list[int]:
    """Those that it listens on."""
    return [each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]


def metrics(port: int) -> str:
    """/metrics, '' where that is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            return str(answer.read().decode())
    except (OSError, ValueError, HTTPException):
        return ""


async def talks(url: str, count: int, seed: int) -> list[float]:
    """`count` talks of five turns, six at a time; the milliseconds to each first token but those of first turns."""
    draw, found, at_a_time = random.Random(seed), list[float](), asyncio.Semaphore(6)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def talk(name: str, questions: list[str]) -> None:
            async with at_a_time:
                messages: list[dict[str, str]] = []
                for turn, question in enumerate(questions):
                    messages.append({"role": "user", "content": question})
                    milliseconds, text = await answer(http, url, name, messages)
                    messages.append({"role": "assistant", "content": text})
                    if turn:
                        found.append(milliseconds)
                    await asyncio.sleep(0.2)

        talking = [[" ".join(draw.choices(WORDS, k=60)) for _ in range(5)] for _ in range(count)]
        await asyncio.gather(*(talk(f"{seed}-{number}", questions) for number, questions in enumerate(talking)))
    return found


async def answer(http: aiohttp.ClientSession, url: str, name: str, messages: list[dict[str, str]]) -> tuple[float, str]:
    """Milliseconds to the first token, and the answer."""
    body = {
        "model": "small",
        "messages": messages,
        "max_tokens": 24,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    began, first, text = time.monotonic(), 0.0, ""
    async with http.post(f"{url}/v1/chat/completions", json=body, headers={"x-session-id": name}) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                if choices and (content := choices[0]["delta"].get("content")):
                    first = first or time.monotonic()
                    text += content
    return 1000 * (first - began), text


def scaling(args: argparse.Namespace) -> None:
    """One replica, a load step, up to three, and back to one; the trace on standard output."""
    with up(RayProcess([*few_layers(args.layers), "--autoscale", "1:3"], folder())) as server:
        assert isinstance(server, RayProcess)
        trace = asyncio.run(step(server))
    for point in trace:
        print(json.dumps(point))
    if args.plot:
        args.plot.write_text(plot(trace), encoding="utf-8")


async def step(server: RayProcess) -> list[dict[str, float]]:
    """20 s with 2 clients, 100 s with 30, then 2 again until one replica is left; sampled about every second.

    With the processor seconds that Ray's parts have used so far: their growth says what a replica more costs them.
    """
    trace: list[dict[str, float]] = []
    began = time.monotonic()
    quiet = Load(server.url, "small", clients=2)
    await quiet.learn()
    busy = Load(server.url, "small", clients=28, expected=quiet.expected)

    async def watch(clients: int, until: float, alone: bool = False) -> None:
        while time.monotonic() - began < until:
            up = len(await asyncio.to_thread(server.servers_up))
            done = [*quiet.outcomes, *busy.outcomes]
            bad = sum(outcome.kind != "good" for outcome in done)
            at = round(time.monotonic() - began, 1)
            used = await asyncio.to_thread(cpu_seconds, server)
            trace.append({"t": at, "clients": clients, "replicas": up, "answers": len(done), "bad": bad, **used})
            if alone and up == 1:
                return
            await asyncio.sleep(1)

    async with quiet.running():
        await watch(2, 20)
        async with busy.running():
            await watch(30, 130)
        await watch(2, 280, alone=True)
    return trace


def plot(trace: list[dict[str, float]]) -> str:
    """Replicas and clients over time, as SVG."""
    width, height, left = 720, 260, 40
    seconds = max(point["t"] for point in trace) or 1.0
    most = max(point["clients"] for point in trace)

    def line(name: str, top: float, colour: str) -> str:
        points = [(left + point["t"] / seconds * (width - left - 10), 220 - point[name] / top * 190) for point in trace]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>'

    marks = "".join(
        f'<text x="{left + second / seconds * (width - left - 10):.0f}" y="240" font-size="11">{second} s</text>'
        for second in range(0, int(seconds), 30)
    )
    steps = "".join(
        f'<text x="8" y="{224 - n / 3 * 190:.0f}" font-size="11" fill="#0a58ca">{n}</text>' for n in range(4)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
        f'<rect width="{width}" height="{height}" fill="white"/>{steps}{marks}'
        f"{line('clients', most, '#999')}{line('replicas', 3, '#0a58ca')}"
        f'<text x="60" y="16" font-size="12" fill="#0a58ca">replicas in service</text>'
        f'<text x="200" y="16" font-size="12" fill="#666">clients (at most {most:.0f})</text></svg>\n'
    )


if __name__ == "__main__":
    main()
