"""GPUs: the table in gpus.toml, and what `nvidia-smi` says of this box. No torch, no CUDA library."""

import re
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from serving.errors import ConfigError, near
from serving.units import MIB

TABLE = Path(__file__).with_name("gpus.toml")
QUERY = ("index", "uuid", "name", "memory.total", "memory.free", "compute_cap")
# A detected card takes the bandwidth of a row only if its memory is within this part of that row's: an "RTX 4090 Laptop
# GPU" or an "H100 NVL" is another card.
SAME_MEMORY = 0.1
BF16_SINCE = (8, 0)


@dataclass(frozen=True)
class Gpu:
    """One card. Memory in bytes as `nvidia-smi` counts it, bandwidth in bytes a second (None where unknown)."""

    name: str
    memory_bytes: int
    memory_available_bytes: int
    bandwidth_bytes: float | None
    bf16: bool
    compute_capability: str | None


@cache
def known_gpus() -> tuple[Gpu, ...]:
    """The rows of gpus.toml, with all their memory available."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return tuple(
        Gpu(
            name=name,
            memory_bytes=row["memory_mib"] * MIB,
            memory_available_bytes=row["memory_mib"] * MIB,
            bandwidth_bytes=row["bandwidth_gbs"] * 1e9,
            bf16=has_bf16(row["compute"]),
            compute_capability=row["compute"],
        )
        for name, row in rows.items()
    )


def find_gpu(name: str) -> Gpu:
    """The row that a user means by "A800-80G", "a800", "RTX 4090" or "NVIDIA A800-SXM4-80GB".

    Raises ConfigError when no row or several rows match, with the names to choose from.
    """
    rows = {gpu.name: gpu for gpu in known_gpus()}
    exact = [gpu for row, gpu in rows.items() if _words(row) == _words(name)]
    matches = exact or [gpu for gpu in rows.values() if _model(gpu) in _words(name) and _size_agrees(gpu, name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = " or ".join(gpu.name for gpu in matches)
        raise ConfigError(f'gpu: "{name}" is more than one card; say {names}')
    raise ConfigError(f'gpu: "{name}" is not known{near(name, list(rows))}; known are {", ".join(rows)}')


def has_bf16(compute_capability: str) -> bool:
    """Whether the card computes in bfloat16: from Ampere (8.0) on."""
    major, _, minor = compute_capability.partition(".")
    return (int(major), int(minor)) >= BF16_SINCE


def query_gpus(command: str = "nvidia-smi", timeout: float = 5) -> str:
    """What `nvidia-smi` prints for QUERY, "" where it is absent, fails, or does not answer within `timeout` seconds."""
    arguments = [command, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return ""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        # A broken driver leaves the process in the kernel, where even SIGKILL waits: do not wait for its end.
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=1)
        return ""
    return output.decode(errors="replace") if process.returncode == 0 else ""


def parse_gpus(text: str, environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The cards in the output of `query_gpus`, in the order CUDA gives them to a process with this environment.

    Lines that are not of the expected form (drivers print "[N/A]", errors and warnings) are left out.
    """
    cards: dict[str, tuple[str, Gpu]] = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(QUERY) or not all(re.fullmatch(r"\d+", fields[at]) for at in (0, 3, 4)):
            continue
        index, uuid, name, total, free, compute = fields
        cards[index] = (uuid, _card(name, int(total) * MIB, int(free) * MIB, compute))
    return _visible(cards, environ.get("CUDA_VISIBLE_DEVICES"))


def _card(name: str, memory: int, available: int, compute: str) -> Gpu:
    """A detected card: its own memory, the bandwidth of the table's row where it is that card."""
    rows = [gpu for gpu in known_gpus() if _model(gpu) in _words(name)]
    row = min(rows, key=lambda gpu: abs(gpu.memory_bytes - memory), default=None)
    if row is not None and abs(row.memory_bytes - memory) > SAME_MEMORY * memory:
        row = None
    stated = re.fullmatch(r"\d+\.\d+", compute) is not None  # drivers before 510 do not know compute_cap
    capability = compute if stated else (row.compute_capability if row else None)
    return Gpu(
        name=name,
        memory_bytes=memory,
        memory_available_bytes=available,
        bandwidth_bytes=row.bandwidth_bytes if row else None,
        bf16=capability is not None and has_bf16(capability),
        compute_capability=capability,
    )


def _visible(cards: Mapping[str, tuple[str, Gpu]], wanted: str | None) -> tuple[Gpu, ...]:
    """CUDA_VISIBLE_DEVICES: indices or beginnings of UUIDs; the first unknown one hides all after it (CUDA's rule)."""
    if wanted is None:
        return tuple(gpu for _, gpu in cards.values())
    chosen: list[Gpu] = []
    for item in (part.strip() for part in wanted.split(",")):
        found = [
            gpu
            for index, (uuid, gpu) in cards.items()
            if item == index or (item[:4] == "GPU-" and uuid.startswith(item))
        ]
        if not found:
            break
        chosen.append(found[0])
    return tuple(chosen)


def _words(name: str) -> Sequence[str]:
    """The name's letters-and-digits parts in upper case: "NVIDIA A800-SXM4-80GB" -> NVIDIA A800 SXM4 80GB."""
    return re.findall(r"[A-Z0-9]+", name.upper())


def _model(gpu: Gpu) -> str:
    """The word that names a row's card: "A800" of A800-80G, "4090" of RTX-4090."""
    return next(word for word in _words(gpu.name) if word != "RTX")


def _size_agrees(gpu: Gpu, name: str) -> bool:
    """False if both the row and the name state a size ("80G", "80GB") and these differ."""
    sizes = [re.findall(r"\b(\d+)GB?\b", " ".join(_words(text))) for text in (gpu.name, name)]
    return not (sizes[0] and sizes[1]) or sizes[0] == sizes[1]
