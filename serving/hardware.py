"""What this box has: cores, memory, GPUs. Read from /proc, /sys and `nvidia-smi`; torch is not imported."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ConfigError, near
from serving.gpus import Gpu, find_gpu, parse_gpus, query_gpus

__all__ = ["Gpu", "Hardware", "declared", "detect"]

DEVICES = ("auto", "cpu", "cuda")
PATH_OF_CPUS = "sys/devices/system/cpu"
PATH_OF_NODES = "sys/devices/system/node"
PATH_OF_CGROUPS = "sys/fs/cgroup"


@dataclass(frozen=True)
class Hardware:
    """What the engine may use.

    device: "cpu" or "cuda"
    cpus: one logical CPU id a physical core, of one NUMA node; () on a box that is only described
    memory_bytes, memory_available_bytes: of that node, no more than the container's limit leaves
    cpu_flags: names from /proc/cpuinfo, such as "avx512_bf16" and "amx_tile"
    gpus: in CUDA's order; () on "cpu"
    """

    device: str
    cpus: tuple[int, ...]
    memory_bytes: int
    memory_available_bytes: int
    cpu_flags: frozenset[str]
    gpus: tuple[Gpu, ...]


def detect(
    device: str = "auto",
    *,
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    affinity: Iterable[int] | None = None,
    nvidia_smi: str = "nvidia-smi",
) -> Hardware:
    """This box. "auto" means its GPUs where there are any, else its CPU.

    `root` holds proc/ and sys/; `affinity` is the CPU ids that this process may run on, else the kernel is asked.
    Raises ConfigError for an unknown device, and for "cuda" where no GPU is to be seen.
    """
    if device not in DEVICES:
        raise ConfigError(f'device: "{device}" is not one of {", ".join(DEVICES)}{near(device, list(DEVICES))}')
    gpus = () if device == "cpu" else parse_gpus(query_gpus(nvidia_smi), environ)
    if device == "cuda" and not gpus:
        visible = environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f' that CUDA_VISIBLE_DEVICES="{visible}" lets through'
        raise ConfigError(
            f'device: "cuda" was asked for, but `{nvidia_smi}` lists no GPU{hidden}. '
            "Check that it runs on this box (in a container: that GPUs are passed in), or use --device cpu"
        )
    cpus = sorted(os.sched_getaffinity(0) if affinity is None else affinity)
    node = _node_of(cpus[0], root)
    total, available = _memory(node, root)
    return Hardware(
        device="cuda" if gpus else "cpu",
        cpus=usable_cores(_on_node(cpus, node, root), _siblings(cpus, root), _cpu_quota(root)),
        memory_bytes=total,
        memory_available_bytes=available,
        cpu_flags=parse_cpu_flags(_read(root / "proc/cpuinfo")),
        gpus=gpus,
    )


def declared(gpu: str | None = None, count: int = 1, cpu_memory: int | None = None) -> Hardware:
    """A box that is only described: `count` cards of a row of gpus.toml, or a CPU with `cpu_memory` free bytes.

    Raises ConfigError for an unknown card, a count below 1, or both kinds or neither being named.
    """
    if (gpu is None) == (cpu_memory is None):
        raise ConfigError("describe a box either by --gpu (and --count) or by --cpu-memory")
    if count < 1:
        raise ConfigError(f'count: "{count}" is not a number of GPUs; expected 1 or more')
    memory = cpu_memory or 0
    gpus = (find_gpu(gpu),) * count if gpu is not None else ()
    return Hardware("cuda" if gpus else "cpu", (), memory, memory, frozenset(), gpus)


def usable_cores(cpus: Iterable[int], siblings: Mapping[int, frozenset[int]], quota: float | None) -> tuple[int, ...]:
    """The CPU ids to compute on: the first of each physical core, and no more than the quota (in CPUs) allows.

    Two threads of one core share its vector units, so the second adds nothing to a matrix product (vLLM too binds one
    a core); it is left to the API server. A thread above the quota would be stopped while the others wait for it.
    """
    chosen: list[int] = []
    for cpu in sorted(cpus):
        if not siblings.get(cpu, frozenset()).intersection(chosen):
            chosen.append(cpu)
    return tuple(chosen if quota is None else chosen[: max(1, int(quota))])


def parse_ids(text: str) -> tuple[int, ...]:
    """CPU ids of a kernel list: "0-2,4" -> (0, 1, 2, 4)."""
    ids: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        ids.extend(range(int(first), int(last or first) + 1))
    return tuple(ids)


def parse_meminfo(text: str) -> dict[str, int]:
    """Bytes by name, of /proc/meminfo and of a node's meminfo ("Node 0 MemTotal:  8 kB")."""
    return {name: int(size) * 1024 for name, size in re.findall(r"(\S+):\s+(\d+) kB", text)}


def parse_cpu_flags(text: str) -> frozenset[str]:
    """The first CPU's flags in /proc/cpuinfo: "flags" on x86, "Features" on ARM."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def cgroup_folders(controller: str, text: str, cgroups: Path) -> Iterator[Path]:
    """The cgroup folders, v2 and v1, whose limits bind a process with this /proc/self/cgroup, from its own to the root.

    Inside a container the root often is the process's own; a path that does not exist there is passed over.
    """
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = cgroups / controller if controllers else cgroups
        own = top / path.strip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_dir() and folder.is_relative_to(top))


def _memory(node: int | None, root: Path) -> tuple[int, int]:
    """Bytes in all and available: of the machine or its NUMA node, and of each cgroup above this process."""
    if node is None:
        info = parse_meminfo(_read(root / "proc/meminfo"))
        total, available = info["MemTotal"], info["MemAvailable"]
    else:
        # A node states no MemAvailable; this is vLLM's sum (vllm/utils/cpu_resource_utils.py).
        info = parse_meminfo(_read(root / PATH_OF_NODES / f"node{node}/meminfo"))
        total = info["MemTotal"]
        available = sum(info.get(part, 0) for part in ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable"))
    for folder in cgroup_folders("memory", _read(root / "proc/self/cgroup"), root / PATH_OF_CGROUPS):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < total:
            used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
            # Cached file pages count as used, but the kernel drops them for whoever needs the memory.
            cached = re.findall(r"^(?:total_)?inactive_file (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
            total = limit
            available = min(available, max(0, limit - used + max(map(int, cached), default=0)))
    return total, available


def _cpu_quota(root: Path) -> float | None:
    """The tightest CPU quota of the cgroups above this process, in CPUs; None without one."""
    quotas: list[float] = []
    for folder in cgroup_folders("cpu", _read(root / "proc/self/cgroup"), root / PATH_OF_CGROUPS):
        text = (
            _read(folder / "cpu.max") or f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}"
        )
        match = re.fullmatch(r"\s*(\d+)\s+(\d+)\s*", text)
        if match:
            quotas.append(int(match[1]) / int(match[2]))
    return min(quotas, default=None)


def _node_of(cpu: int, root: Path) -> int | None:
    """The NUMA node of a CPU, None on a box that has one node or tells of none.

    vLLM's worker takes memory only from the node of the process's first CPU: only that node's cores and memory count.
    """
    folders = list((root / PATH_OF_NODES).glob("node[0-9]*"))
    if len(folders) < 2:
        return None
    return next((int(folder.name[4:]) for folder in folders if cpu in parse_ids(_read(folder / "cpulist"))), None)


def _on_node(cpus: Iterable[int], node: int | None, root: Path) -> Iterable[int]:
    """Those of `cpus` that are on the node."""
    return cpus if node is None else set(cpus) & set(parse_ids(_read(root / PATH_OF_NODES / f"node{node}/cpulist")))


def _siblings(cpus: Iterable[int], root: Path) -> dict[int, frozenset[int]]:
    """The CPU ids that share each CPU's physical core, itself among them."""
    path = "topology/thread_siblings_list"
    return {cpu: frozenset(parse_ids(_read(root / PATH_OF_CPUS / f"cpu{cpu}" / path))) for cpu in cpus}


def _read(path: Path) -> str:
    """A file's text, "" where it cannot be read: which of these files exist differs from kernel to kernel."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """A file's whole number, None where it is absent or says "max"."""
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None
