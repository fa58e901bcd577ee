"""Shared libraries that the engine is started with: where the dynamic loader finds them, and whether it takes them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

# A faster allocator; its smaller build is enough. System packages: libtcmalloc-minimal4, gperftools-libs.
TCMALLOC = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")
# Intel's OpenMP, from the wheel intel-openmp, which puts it beside Python's own libraries.
OPENMP = (f"{sys.prefix}/lib/libiomp5.so", "libiomp5.so")
# What torch compiles with on a CPU where CXX names nothing else, and the header its code includes.
COMPILER = "g++"
PYTHON_HEADER = "Python.h"
# What the CPU engine is linked against.
NUMA = ("libnuma.so.1",)


def find_preloads() -> tuple[Path, ...]:
    """What to put into LD_PRELOAD for the CPU engine, in this order: tcmalloc and Intel's OpenMP, where they are."""
    found = (find_library(TCMALLOC), find_library(OPENMP))
    return tuple(path for path in found if path)


def lacks_to_compile(environ: Mapping[str, str] = os.environ) -> str:
    """What this box lacks to compile a model for its CPU, or ''."""
    compiler = environ.get("CXX") or COMPILER
    if not shutil.which(compiler):
        return compiler
    return "" if Path(sysconfig.get_path("include"), PYTHON_HEADER).exists() else PYTHON_HEADER


def find_library(names: Sequence[str], environ: Mapping[str, str] = os.environ) -> Path | None:
    """The first of `names` (paths, or names that the loader looks up) that can be preloaded into this Python.

    What cannot (missing, another machine's, lacking a library of its own) would make every program print an error.
    """
    return next((path for name in names if (path := locate(name, environ)) and loads(path, environ)), None)


def locate(name: str, environ: Mapping[str, str]) -> Path | None:
    """Where the loader finds `name`. It is asked itself (man ld.so: LD_TRACE_LOADED_OBJECTS), and starts nothing."""
    listing = start({**environ, "LD_PRELOAD": name, "LD_TRACE_LOADED_OBJECTS": "1"}).stdout
    match = re.search(rf"^\s*(?:{re.escape(name)} => )?(/.*{re.escape(Path(name).name)}) \(0x", listing, re.MULTILINE)
    return Path(match[1]) if match else None


def loads(path: Path, environ: Mapping[str, str]) -> bool:
    """Whether Python starts with `path` preloaded, and the loader has nothing to complain about."""
    result = start({**environ, "LD_PRELOAD": str(path)})
    return result.returncode == 0 and not result.stderr


def start(environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Start this Python, which ends at once."""
    return subprocess.run([sys.executable, "-I", "-S", "-c", ""], env=environ, capture_output=True, text=True)
