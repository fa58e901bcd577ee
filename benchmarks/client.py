"""Send requests and write down when every byte came back; nothing is parsed while the load runs.

One process, one event loop, no torch. All times are `perf_counter_ns`.
"""

import asyncio
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

import aiohttp

from benchmarks.monitor import Health, Monitor
from benchmarks.scrape import Scraper
from benchmarks.sse import Read

# Servers close idle connections after 5 s (uvicorn, node): a connection is not used again after a little less.
KEEPALIVE_S = 4
TIMEOUT_S = 600


@dataclass(frozen=True)
class Server:
    """Where the load goes. `headers` carries the key."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One request, ready to be sent, and the token counts that its answer must show; None where these are not known."""

    path: str
    body: bytes
    input_tokens: int | None
    output_tokens: int | None


@dataclass(slots=True)
class Exchange:
    """What happened to one call, in ns. `intended` is when it should have been sent, whatever the client was doing.

    `error` is what broke the connection, "" if nothing did. `reconnects`: 1 where the first connection was closed
    before anything came back, so that the call was sent again.
    """

    call: Call
    intended: int
    sent: int = 0
    headers: int = 0
    end: int = 0
    status: int = 0
    reads: list[Read] = field(default_factory=list)
    error: str = ""
    reconnects: int = 0


@dataclass(frozen=True)
class Recording:
    """A block of load as it was recorded: from `start` to `end` in ns. `scrapes` are reads of the server's /metrics."""

    exchanges: list[Exchange]
    start: int
    end: int
    health: Health
    scrapes: list[Read]


async def perform(session: aiohttp.ClientSession, server: Server, exchange: Exchange) -> None:
    """Send one call and record its answer. Never raises for what the network or the server does.

    Servers may close a connection that they kept open at any time (RFC 9112, 9.5), and aiohttp does not say whether one
    was new: as SDKs do, a call is sent once more, and counted, over a new connection, for other kept ones may be closed
    too. Its time goes on from when it was sent first.
    """
    exchange.sent = perf_counter_ns()
    try:
        try:
            await exchanged(session, server, exchange)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if exchange.status or isinstance(error, aiohttp.ClientConnectorError):
                raise
            exchange.reconnects += 1
            async with new_session(session.headers) as another:
                await exchanged(another, server, exchange)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        exchange.error = f"{type(error).__name__}: {error}"
    exchange.end = perf_counter_ns()


def new_session(headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """A client with connections of its own."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    return aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)


async def exchanged(session: aiohttp.ClientSession, server: Server, exchange: Exchange) -> None:
    """The call and every read of its answer. Raises what aiohttp raises."""
    async with session.post(server.url + exchange.call.path, data=exchange.call.body) as response:
        exchange.headers = perf_counter_ns()
        exchange.status = response.status
        read, reads = response.content.readany, exchange.reads
        while chunk := await read():
            reads.append((perf_counter_ns(), chunk))


async def open_loop(
    session: aiohttp.ClientSession, server: Server, calls: Sequence[Call], times: Sequence[float]
) -> list[Exchange]:
    """Send each call at its time (seconds from now), whether or not earlier ones have been answered."""
    start = perf_counter_ns()
    exchanges = [Exchange(call, start + int(time * 1e9)) for call, time in zip(calls, times, strict=True)]
    async with asyncio.TaskGroup() as group:
        for exchange in exchanges:
            await asyncio.sleep(max(0, exchange.intended - perf_counter_ns()) / 1e9)
            group.create_task(perform(session, server, exchange))
    return exchanges


async def closed_loop(
    session: aiohttp.ClientSession, server: Server, calls: Sequence[Call], concurrency: int
) -> list[Exchange]:
    """Keep `concurrency` calls running until all are done: the next one is due when one ends."""
    exchanges: list[Exchange] = []
    waiting = iter(calls)

    async def user() -> None:
        for call in waiting:
            exchange = Exchange(call, perf_counter_ns())
            exchanges.append(exchange)
            await perform(session, server, exchange)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(user())
    return exchanges


async def record(
    server: Server,
    calls: Sequence[Call],
    *,
    times: Sequence[float] | None = None,
    concurrency: int = 1,
    scrape: bool = False,
) -> Recording:
    """Run one block: open loop where `times` are given, else closed loop.

    With `scrape`, the server's metrics are read meanwhile.
    """
    headers = {"Content-Type": "application/json", **server.headers}
    async with new_session(headers) as session:
        async with Scraper(session, server.url, wanted=scrape) as scraper:
            gc.collect()
            gc.disable()
            start = perf_counter_ns()
            try:
                async with Monitor() as monitor:
                    if times is None:
                        exchanges = await closed_loop(session, server, calls, concurrency)
                    else:
                        exchanges = await open_loop(session, server, calls, times)
            finally:
                gc.enable()
            end = perf_counter_ns()
        return Recording(exchanges, start, end, monitor.health(), scraper.reads)
