"""The systems that can be compared by name, and how each is started on the same checkpoint."""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from benchmarks import llama_cpp
from benchmarks.client import Server
from benchmarks.console import BenchmarkError
from benchmarks.needs import lacking

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent
SERVED_NAME = "benchmark"
KV_FLAG = "--kv-cache-memory-bytes"
# What vLLM keeps to itself and what it must not report, for whichever server it runs in.
QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}
NAMES = {
    "launcher": "this project's server",
    "plain": "the plain vLLM server with its own defaults",
    "hf": "Hugging Face generate, one request at a time, as the family's model card does",
    "hf-batch": "Hugging Face generate, on whatever waits, up to 32 at a time",
    "ray": "Ray Serve LLM with its own defaults",
    "llama.cpp": "llama.cpp's server with its own defaults, on a GGUF file of the same weights",
}


@dataclass(frozen=True)
class System:
    """One system. Without a command it runs already; `absent` tells why it cannot be started."""

    name: str
    server: Server
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    absent: str = ""


@dataclass(frozen=True)
class Recipe:
    """How the launcher would start vLLM: the checkpoint's folder, vLLM's flags, and what it sets around it."""

    model: str
    args: tuple[str, ...]
    env: Mapping[str, str]

    @property
    def on_cpu(self) -> bool:
        return "VLLM_CPU_OMP_THREADS_BIND" in self.env

    @property
    def dtype(self) -> str:
        return self.args[self.args.index("--dtype") + 1]

    @property
    def kv_cache(self) -> tuple[str, ...]:
        """The flag of the KV cache's size with its value; none on a GPU."""
        if KV_FLAG not in self.args:
            return ()
        place = self.args.index(KV_FLAG)
        return self.args[place : place + 2]

    @property
    def max_model_len(self) -> int:
        """Most tokens of a prompt with its answer."""
        return int(self.args[self.args.index("--max-model-len") + 1])

    @property
    def settings(self) -> str:
        """Flags and environment in one line, without the KV cache's size, which depends on how much memory is free."""
        flags = " ".join(word for word in self.args if word not in self.kv_cache)
        return " ".join([re.sub(r"(--\S+) (?!--)", r"\1=", flags), *(f"{key}={self.env[key]}" for key in self.env)])


def recipe(model: str | None) -> Recipe:
    """Ask the launcher, which makes or downloads the checkpoint if need be. Raises BenchmarkError with its refusal."""
    command = [str(BIN / "xuanyuan"), "serve", *([model] if model else []), "--dry-run", "--json"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchmarkError(f"{' '.join(command)}: {error}") from error
    found = json.loads(done.stdout.splitlines()[-1])
    return Recipe(found["model"], tuple(found["args"]), found["env"])


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def foreign_plugins() -> str:
    """Every vLLM plugin that is installed but this project's, as VLLM_PLUGINS wants them."""
    groups = [group for group in entry_points().groups if group.startswith("vllm.")]
    found = {entry.name for group in groups for entry in entry_points(group=group)}
    return ",".join(sorted(name for name in found if not name.startswith("xuanyuan_")))


def command_of(
    name: str, found: Recipe, model: str | None, port: int, llama_server: Path | None = None
) -> tuple[str, ...]:
    """The command line of a system that has a name. Raises BenchmarkError where the checkpoint is not for it.

    On a CPU vLLM's own default is to reserve 92 % of the machine's memory, and it refuses to start where that much is
    not free. The plain server and Ray get as much KV cache as the launcher has instead, so that all can be resident.
    """
    where = ("--host", "127.0.0.1", "--port", str(port), "--served-model-name", SERVED_NAME)
    if name == "launcher":
        return (str(BIN / "xuanyuan"), "serve", *((model,) if model else ()), *where)
    if name == "llama.cpp":
        gguf = llama_cpp.gguf_of(Path(found.model))
        return llama_cpp.command(llama_cpp.find_binary(llama_server), gguf, SERVED_NAME, port)
    python = (sys.executable, "-W", "ignore", "-m")
    if name == "plain":
        return (*python, "vllm.entrypoints.openai.api_server", "--model", found.model, *where, *found.kv_cache)
    here = ("--model", found.model, "--port", str(port))
    if name == "ray":
        return (*python, "benchmarks.ray_server", *here, *(("--cpu",) if found.on_cpu else ()), *found.kv_cache)
    return (*python, "benchmarks.hf_server", *here, "--batch", "32" if name == "hf-batch" else "1")


def named(name: str, found: Recipe, model: str | None, llama_server: Path | None = None) -> System:
    """One of NAMES. Without what it needs it is absent, not an error: the report lists it."""
    if reason := lacking(name, llama_server):
        return System(name, Server(""), absent=reason)
    port = free_port()
    env = {**QUIET, "PATH": f"{BIN}:{os.environ.get('PATH', '')}"}
    if name in ("plain", "ray"):
        env["VLLM_PLUGINS"] = foreign_plugins()
    try:
        command = command_of(name, found, model, port, llama_server)
    except BenchmarkError as error:
        return System(name, Server(""), absent=str(error))
    return System(name, Server(f"http://127.0.0.1:{port}"), command, env)


def left_out(names: Sequence[str], llama_server: Path | None = None) -> list[System]:
    """The rest of NAMES, for a command that measures only these: why each is missing, or how it is measured."""
    reason = "not part of this benchmark; python -m benchmarks compare {} {} measures it"
    return [
        System(name, Server(""), absent=lacking(name, llama_server) or reason.format(names[0], name))
        for name in NAMES
        if name not in names
    ]


def parse_url(text: str) -> tuple[str, str]:
    """`NAME=URL` as (name, URL), for argparse."""
    name, _, url = text.partition("=")
    if not name or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=URL, such as theirs=http://127.0.0.1:8001")
    return name, url


def describe(systems: Sequence[System]) -> dict[str, dict[str, Any]]:
    """Flags and environment of each system, for the report."""
    return {
        system.name: {
            "url": system.server.url,
            "command": list(system.command),
            "env": dict(system.env),
            "absent": system.absent,
        }
        for system in systems
    }


@dataclass(frozen=True)
class Chosen:
    """The systems that a command was asked for, and the launcher's recipe where one of them is started here."""

    systems: tuple[System, ...]
    recipe: Recipe | None

    @property
    def present(self) -> list[System]:
        return [system for system in self.systems if not system.absent]

    @property
    def resident(self) -> bool:
        """Whether idle servers may stay in memory: vLLM fills a GPU's, so there only what runs elsewhere may."""
        return self.recipe is None or self.recipe.on_cpu


def choose(
    names: Sequence[str], servers: Mapping[str, Server], model: str | None, llama_server: Path | None = None
) -> Chosen:
    """Systems by name, then those that run already. Raises BenchmarkError for none, and when the first is absent."""
    found = recipe(model) if names else None
    systems = [named(name, found, model, llama_server) for name in names] if found else []
    systems += [System(name, server) for name, server in servers.items()]
    if not systems:
        raise BenchmarkError(f"name a system ({', '.join(NAMES)}) or give --url NAME=URL")
    if systems[0].absent:
        raise BenchmarkError(f"{systems[0].name}, with which all others are compared: {systems[0].absent}")
    return Chosen(tuple(systems), found)
