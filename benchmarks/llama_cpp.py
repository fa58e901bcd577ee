"""llama.cpp's server on the same weights: where its binary is, and the GGUF file that it reads."""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.console import BenchmarkError, log

BINARY = "llama-server"
FORMAT = 1
"""Counts up when the same checkpoint becomes another file, so that files made before are made anew."""
READ = ("*.safetensors", "config.json", "tokenizer*", "added_tokens.json", "chat_template*")
HOW_TO_GET = "install llama.cpp (Debian and Homebrew carry it as llama.cpp), or name the binary: --llama-server PATH"


def binary(text: str) -> Path:
    """The path of a program that can be started, for argparse."""
    path = Path(text).expanduser()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise argparse.ArgumentTypeError(f"{text!r}: expected the path of llama.cpp's {BINARY}, a program")
    return path.absolute()


def find_binary(given: Path | None) -> Path:
    """The one that was given, else the one on PATH. Raises BenchmarkError for none."""
    found = given or shutil.which(BINARY)
    if not found:
        raise BenchmarkError(f"there is no {BINARY} on PATH; {HOW_TO_GET}")
    return Path(found)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Beside the demo checkpoint: $XUANYUAN_CACHE, else $XDG_CACHE_HOME/xuanyuan, else ~/.cache/xuanyuan."""
    caches = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environ.get("XUANYUAN_CACHE") or caches / "xuanyuan") / "gguf"


def state(folder: Path) -> str:
    """Changes with every file of the checkpoint that goes into GGUF: names, sizes and times."""
    files = sorted(file for pattern in READ for file in folder.glob(pattern))
    seen = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((FORMAT, seen)).encode()).hexdigest()[:16]


def gguf_of(model: Path, cache: Path | None = None) -> Path:
    """The checkpoint in `model` as GGUF, made if the cache has it not. Raises BenchmarkError where that cannot be.

    It is written beside its place and renamed, with a lock held: a kill leaves nothing that looks whole. What was made
    of an earlier state of the folder goes.
    """
    model = model.resolve()
    folder = (cache or cache_folder()) / f"{model.name}-{hashlib.sha256(os.fsencode(model)).hexdigest()[:8]}"
    file = folder / f"{state(model)}.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                make(model, file)
    except OSError as error:
        raise BenchmarkError(f"{file} cannot be made: {error.strerror}") from error
    return file


def make(model: Path, file: Path) -> None:
    """In a process of its own: the client that measures stays small. Call with the lock held."""
    log(f"making a GGUF file of {model.name} …")
    for old in file.parent.glob("*.gguf*"):
        old.unlink()
    part = file.with_suffix(".gguf.part")
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gguf_file", str(model), str(part)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    if done.returncode:
        part.unlink(missing_ok=True)
        raise BenchmarkError(f"no GGUF file: {(done.stderr.strip().splitlines() or ['its maker died'])[-1]}")
    part.rename(file)


def command(server: Path, gguf: Path, served_name: str, port: int) -> tuple[str, ...]:
    """Its own defaults: the flags say only what to serve and where."""
    return (str(server), "--model", str(gguf), "--alias", served_name, "--host", "127.0.0.1", "--port", str(port))
