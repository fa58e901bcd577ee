"""Clients of a real server that note all that they are told."""

import asyncio
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import aiohttp

from tests.guard.wire_cases import MODEL

RUNNING = re.compile(r"^vllm:num_requests_running\{.*?\} ([\d.]+)$", re.MULTILINE)


def completion(tokens: int, *, stream: bool = True) -> dict[str, object]:
    """A request for an answer of exactly so many tokens."""
    return {"model": MODEL, "prompt": "Once", "max_tokens": tokens, "ignore_eos": True, "stream": stream}


@dataclass
class Told:
    """What one request was told. `broken`: how the connection ended too early; `at`: when."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    broken: str = ""
    at: float = 0.0

    @property
    def done(self) -> bool:
        """Whether a stream came to its regular end."""
        return self.body.rstrip().endswith(b"data: [DONE]")

    @property
    def explained(self) -> bool:
        """Whether a stream's last event is an error. The engine lets [DONE] follow its own; the guard does not."""
        events = self.body.removesuffix(b"data: [DONE]\n\n").rstrip()
        return events.rpartition(b"\n\n")[2].startswith(b'data: {"error"')


async def ask(session: aiohttp.ClientSession, url: str, tokens: int, told: Told | None = None) -> Told:
    """Stream one answer to its end. `told` can be watched meanwhile."""
    told = told or Told()
    try:
        async with session.post(f"{url}/v1/completions", json=completion(tokens)) as response:
            told.status, told.headers = response.status, {k.lower(): v for k, v in response.headers.items()}
            async for chunk in response.content.iter_any():
                told.body += chunk
    except aiohttp.ClientError as error:
        told.broken = type(error).__name__
    told.at = time.monotonic()
    return told


async def begun(streams: list[Told], seconds: float = 60) -> None:
    """Wait until each stream has brought something."""
    async with asyncio.timeout(seconds):
        while not all(told.body for told in streams):
            await asyncio.sleep(0.02)


def get(url: str, key: str = "") -> tuple[int, str]:
    """Status and text; 0 where nobody listens any more."""
    request = urllib.request.Request(url, headers={"x-api-key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


async def wait_running(url: str, key: str, count: int, seconds: float) -> float:
    """Return how long it took until the engine runs `count` requests. Raises TimeoutError."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            _, text = await asyncio.to_thread(get, f"{url}/metrics", key)
            if (found := RUNNING.search(text)) and float(found[1]) == count:
                return time.monotonic() - started
            await asyncio.sleep(0.05)
