"""The launcher against the plain vLLM server with its own defaults: same checkpoint, same requests, side by side.

    python -m benchmarks.against_plain [--rounds 2] [--concurrency 1 8 32]

Each round starts both servers one after the other, in turn first (ABBA), and asks each the same requests: prompts of
100 tokens, answers of exactly 64. Prints tokens/s, seconds to the first answer and the ratios; the last line is one
JSON object.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

PROMPT_TOKENS, ANSWER_TOKENS = 100, 64
PORT = 8123
BIN = Path(sys.executable).parent


def commands() -> dict[str, list[str]]:
    """How each server is started. The plain one keeps every default of its own but the model and the port."""
    dry = subprocess.run([BIN / "xuanyuan", "serve", "--dry-run", "--json"], capture_output=True, text=True, check=True)
    model = json.loads(dry.stdout)["model"]
    plain = [sys.executable, "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    return {
        "plain": [*plain, "--served-model-name", "demo", "--port", str(PORT)],
        "launcher": [str(BIN / "xuanyuan"), "serve", "--served-model-name", "demo", "--port", str(PORT)],
    }


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, ended afterwards whatever happens."""
    env = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=env, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


async def ask(session: aiohttp.ClientSession, number: int) -> int:
    """One request; the tokens of its answer."""
    prompt = [(number * 37 + place * 11) % 40_000 + 5 for place in range(PROMPT_TOKENS)]
    body = {"model": "demo", "prompt": prompt, "max_tokens": ANSWER_TOKENS, "ignore_eos": True, "temperature": 0}
    async with session.post(f"http://127.0.0.1:{PORT}/v1/completions", json=body) as response:
        response.raise_for_status()
        return int((await response.json())["usage"]["completion_tokens"])


async def first_answer(process: subprocess.Popen[bytes], started: float) -> float:
    """Seconds from the start of the server to its first answer. Raises RuntimeError when it ends instead."""
    async with aiohttp.ClientSession() as session:
        while process.poll() is None:
            try:
                await ask(session, 0)
                return time.monotonic() - started
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)
    raise RuntimeError(f"the server ended with exit code {process.returncode}")


async def throughput(concurrency: int, seed: int) -> float:
    """Tokens a second at a closed loop of `concurrency` requests, two waves of them."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started = time.perf_counter()
        tokens = 0
        for wave in range(2):
            numbers = range(seed + wave * concurrency, seed + (wave + 1) * concurrency)
            tokens += sum(await asyncio.gather(*(ask(session, number) for number in numbers)))
        return tokens / (time.perf_counter() - started)


async def measure(process: subprocess.Popen[bytes], started: float, levels: list[int]) -> dict[str, float]:
    """One server: seconds to the first answer, then tokens/s at each concurrency after one warming pass."""
    row = {"first_answer_s": await first_answer(process, started)}
    await throughput(max(levels), 10_000)
    for level in levels:
        row[f"c{level}"] = await throughput(level, 1000 * level)
    return row


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    args = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {"plain": [], "launcher": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds):
            for name in ("plain", "launcher") if number % 2 == 0 else ("launcher", "plain"):
                print(f"round {number + 1} of {args.rounds}: {name} …", file=sys.stderr, flush=True)
                started = time.monotonic()
                with running(commands()[name], Path(folder) / f"{name}-{number}.log") as process:
                    rows[name].append(asyncio.run(measure(process, started, args.concurrency)))
                print("  " + "  ".join(f"{key} {value:.1f}" for key, value in rows[name][-1].items()), file=sys.stderr)
    ratios = {
        key: statistics.geometric_mean(
            ours[key] / plain[key] for ours, plain in zip(rows["launcher"], rows["plain"], strict=True)
        )
        for key in rows["plain"][0]
    }
    print(f"{'':16}{'plain':>10}{'launcher':>10}{'ratio':>8}")
    for key, ratio in ratios.items():
        plain, ours = (statistics.fmean(row[key] for row in rows[name]) for name in ("plain", "launcher"))
        print(f"{key:16}{plain:10.1f}{ours:10.1f}{ratio:8.2f}")
    print(json.dumps({"rows": rows, "ratios": ratios}))


if __name__ == "__main__":
    main()
