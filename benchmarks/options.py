"""Flags that several commands share, and what they are turned into."""

import argparse
import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks import llama_cpp
from benchmarks.client import Call, Server
from benchmarks.console import BenchmarkError
from benchmarks.metrics import Slo
from benchmarks.monitor import Limits
from benchmarks.systems import NAMES, parse_url
from benchmarks.workload import PREFIX_SHARE, Question, finance, from_file, synthetic

WORKLOADS = ("random", "prefix", "finance", "finance-zh", "finance-en", "file")
KEY_VARIABLES = ("XUANYUAN_API_KEY", "OPENAI_API_KEY")


def add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server, without /v1 (default: %(default)s)")
    parser.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help=f"holds the key; else ${', then $'.join(KEY_VARIABLES)}"
    )


def add_run(parser: argparse.ArgumentParser, *, out: Path = Path("benchmark-results")) -> None:
    """What every command that starts servers takes."""
    parser.add_argument("--model", metavar="MODEL", help="catalog name, local folder or hub id; default: the demo")
    parser.add_argument(
        "--url", type=parse_url, action="append", default=[], metavar="NAME=URL", help="a system that runs already"
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"for --url: holds the key; else ${', then $'.join(KEY_VARIABLES)}",
    )
    add_llama_server(parser)
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help="(default: %(default)s)")


def add_llama_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--llama-server",
        type=llama_cpp.binary,
        metavar="PATH",
        help="llama.cpp's server, for the system llama.cpp (default: the one on PATH)",
    )


def system_name(text: str) -> str:
    """One of the systems that can be started, for argparse."""
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"no system {text!r}; there are {', '.join(NAMES)}, and --url NAME=URL")
    return text


def add_workload(parser: argparse.ArgumentParser, *, num_prompts: int | None) -> None:
    group = parser.add_argument_group("workload")
    group.add_argument(
        "--dataset-name",
        choices=WORKLOADS,
        default="random",
        help="random: token ids; prefix: the same with 75 %% shared; finance: conversations in Chinese and English; "
        "file: your own (default: %(default)s)",
    )
    group.add_argument("--dataset-path", type=Path, metavar="FILE", help="JSONL with prompt or messages, or ShareGPT")
    if num_prompts is not None:
        group.add_argument(
            "--num-prompts", type=positive, default=num_prompts, metavar="N", help="(default: %(default)s)"
        )
    group.add_argument(
        "--input-len", type=positive, default=100, metavar="TOKENS", help="random, prefix (default: %(default)s)"
    )
    group.add_argument(
        "--output-len", type=positive, metavar="TOKENS", help="default: 64; finance, file: log-normal, 16 to 256"
    )
    group.add_argument("--seed", type=int, default=0)
    group.add_argument(
        "--ignore-eos",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask for exactly that many tokens; a server that is not vLLM may refuse it (default: on)",
    )


def add_limits(parser: argparse.ArgumentParser, slo: str | None) -> None:
    parser.add_argument(
        "--slo",
        type=parse_slo,
        default=slo or Slo(),
        metavar="KEY=TIME,…",
        help="keys ttft, tpot, e2el; from the time a request was due" + (" (default: %(default)s)" if slo else ""),
    )
    parser.add_argument(
        "--client-cpu",
        type=float,
        default=100 * Limits.client_cpu,
        metavar="PERCENT",
        help="of one core, over which a block is void; raise it where the client has its own (default: %(default)s)",
    )


def parse_slo(text: str) -> Slo:
    """Read "ttft=1000ms,tpot=100ms", for argparse."""
    values: dict[str, float] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*(ttft|tpot|e2el)=(\d+\.?\d*)(ms|s)\s*", part)
        if not found or float(found[2]) == 0:
            raise argparse.ArgumentTypeError(
                f"{part!r}: expected ttft, tpot or e2el and a time, such as ttft=200ms or e2el=2s"
            )
        values[found[1]] = float(found[2]) / (1000 if found[3] == "ms" else 1)
    return Slo(**values)


def positive(text: str) -> int:
    """An integer above zero, for argparse."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def positive_float(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def limits(args: argparse.Namespace) -> Limits:
    return Limits(client_cpu=args.client_cpu / 100)


def server(args: argparse.Namespace) -> Server:
    """The server that --url and --api-key-file name."""
    return server_at(args.url, args.api_key_file)


def server_at(url: str, key_file: Path | None) -> Server:
    """The server with its key. Raises BenchmarkError when the key's file cannot be read."""
    url = url.rstrip("/").removesuffix("/v1")
    try:
        key = key_file.read_text().strip() if key_file else None
    except OSError as error:
        raise BenchmarkError(f"--api-key-file {key_file}: {error.strerror}") from error
    key = key or next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
    return Server(url, {"Authorization": f"Bearer {key}"} if key else {})


def servers(args: argparse.Namespace) -> dict[str, Server]:
    """The systems that --url names."""
    return {name: server_at(url, args.api_key_file) for name, url in args.url}


def questions(args: argparse.Namespace, count: int) -> list[Question]:
    """The workload that the flags name. Raises BenchmarkError when they do not fit together."""
    if (args.dataset_name == "file") != (args.dataset_path is not None):
        raise BenchmarkError("--dataset-path goes with --dataset-name file, and only with it")
    if args.dataset_name == "file":
        return from_file(args.dataset_path, count, args.seed, args.output_len)
    if args.dataset_name.startswith("finance"):
        languages = (args.dataset_name.partition("-")[2],) if "-" in args.dataset_name else ("zh", "en")
        return finance(count, args.seed, languages, args.output_len)
    shared = PREFIX_SHARE if args.dataset_name == "prefix" else 0.0
    return synthetic(count, args.input_len, args.output_len or 64, args.seed, shared=shared)


def calls(args: argparse.Namespace, target: Server, count: int) -> list[Call]:
    """The requests, bound to the server's model and serialized."""
    model = args.model or first_model(target)
    return [question.call(model, ignore_eos=args.ignore_eos) for question in questions(args, count)]


def first_model(target: Server) -> str:
    """The name of the first model that the server lists. Raises BenchmarkError when it lists none."""
    return str(list_models(target)[0]["id"])


def list_models(target: Server) -> list[dict[str, Any]]:
    """What the server lists, at least one. Raises BenchmarkError when it lists none."""
    listing = asyncio.run(get_json(target, "/v1/models"))
    if not listing.get("data"):
        raise BenchmarkError(f"{target.url} lists no model: name one with --model")
    return list(listing["data"])


async def get_json(target: Server, path: str) -> dict[str, Any]:
    """GET a JSON object. Raises BenchmarkError when there is no such answer."""
    try:
        async with aiohttp.ClientSession(headers=target.headers) as session, session.get(target.url + path) as response:
            response.raise_for_status()
            return dict(json.loads(await response.read()))
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise BenchmarkError(f"{target.url}{path}: {error}") from error
