"""What is read from /proc, /sys and nvidia-smi, on boxes that are folders of files."""

import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from serving.errors import ConfigError
from serving.gpus import find_gpu, known_gpus, parse_gpus, query_gpus
from serving.hardware import declared, detect, parse_cpu_flags, parse_ids, usable_cores
from serving.units import GIB, MIB, format_bytes, parse_bytes

MEMINFO = (
    "MemTotal:       25165824 kB\nMemFree:        1048576 kB\nMemAvailable:   20971520 kB\n"  # 24 GiB, 20 GiB available
)
CPUINFO = "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_tile\nprocessor\t: 1\nflags\t\t: fpu\n"
NO_SMI = "no-such-nvidia-smi"

A800 = "0, GPU-aaaa1111, NVIDIA A800-SXM4-80GB, 81920, 81153, 8.0"
SECOND_A800 = "1, GPU-bbbb2222, NVIDIA A800-SXM4-80GB, 81920, 40000, 8.0"


def make_box(root: Path, files: Mapping[str, str]) -> Path:
    """A folder with proc/ and sys/ as a box of two CPUs has them, and `files` on top."""
    for name, text in {"proc/meminfo": MEMINFO, "proc/cpuinfo": CPUINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_bare_box(tmp_path: Path) -> None:
    found = detect(root=make_box(tmp_path, {}), affinity=(1, 0), nvidia_smi=NO_SMI)
    assert found.device == "cpu"
    assert found.cpus == (0, 1)
    assert found.memory_bytes == 24 * GIB
    assert found.memory_available_bytes == 20 * GIB
    assert found.cpu_flags == {"fpu", "avx512_bf16", "amx_tile"}
    assert found.gpus == ()


def test_this_box_is_read_fast_and_within_its_limits() -> None:
    started = time.monotonic()
    found = detect("cpu")
    assert time.monotonic() - started < 1
    assert set(found.cpus) <= os.sched_getaffinity(0)
    assert 0 < found.memory_available_bytes <= found.memory_bytes


@pytest.mark.parametrize(
    ("files", "total", "available"),
    [
        pytest.param(
            # In a container with cgroup v2 the process's own group is the root. 1 GiB of the 3 used are file pages.
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "8589934592\n",
                "sys/fs/cgroup/memory.current": "3221225472\n",
                "sys/fs/cgroup/memory.stat": "anon 2147483648\ninactive_file 1073741824\n",
            },
            8 * GIB,
            6 * GIB,
            id="v2 limit, cached files do not count",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"},
            24 * GIB,
            20 * GIB,
            id="v2 without limit",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/pods/mine\n",
                "sys/fs/cgroup/pods/memory.max": "4294967296\n",
                "sys/fs/cgroup/pods/memory.current": "1073741824\n",
                "sys/fs/cgroup/pods/mine/memory.max": "max\n",
            },
            4 * GIB,
            3 * GIB,
            id="v2 limit of a parent",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1073741824\n",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 0\ntotal_inactive_file 536870912\n",
            },
            2 * GIB,
            3 * GIB // 2,
            id="v1 limit, seen from inside the container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            24 * GIB,
            20 * GIB,
            id="v1 without limit",
        ),
        pytest.param(
            # More in use than the limit allows (it was lowered): nothing is available, not less than nothing.
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "1073741824\n",
                "sys/fs/cgroup/memory.current": "2147483648\n",
            },
            GIB,
            0,
            id="v2 over the limit",
        ),
    ],
)
def test_memory_is_what_the_container_may_have(
    tmp_path: Path, files: Mapping[str, str], total: int, available: int
) -> None:
    found = detect(root=make_box(tmp_path, files), affinity=(0, 1), nvidia_smi=NO_SMI)
    assert (found.memory_bytes, found.memory_available_bytes) == (total, available)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, (0, 1)),
        # Half a core more would stop the third thread half of the time.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, (0, 1)),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, (0,)),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, (0, 1, 2, 3)),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            (0, 1, 2),
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            (0, 1, 2, 3),
        ),
    ],
)
def test_cores_within_the_quota(tmp_path: Path, files: Mapping[str, str], cores: tuple[int, ...]) -> None:
    assert detect(root=make_box(tmp_path, files), affinity=range(4), nvidia_smi=NO_SMI).cpus == cores


def test_one_thread_of_each_core(tmp_path: Path) -> None:
    siblings = {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 2},{cpu % 2 + 2}\n"
        for cpu in range(4)
    }
    box = make_box(tmp_path, siblings)
    assert detect(root=box, affinity=range(4), nvidia_smi=NO_SMI).cpus == (0, 1)
    # Where the first thread of a core is not ours, its second is.
    assert detect(root=box, affinity=(1, 2, 3), nvidia_smi=NO_SMI).cpus == (1, 2)


def test_only_the_first_numa_node_counts(tmp_path: Path) -> None:
    node = "Node {0} MemTotal: {1} kB\nNode {0} MemFree: {2} kB\nNode {0} Active(file): 1048576 kB\n"
    files = {
        "sys/devices/system/node/node0/cpulist": "0-1\n",
        "sys/devices/system/node/node0/meminfo": node.format(0, 4 * 1048576, 1048576),
        "sys/devices/system/node/node1/cpulist": "2-3\n",
        "sys/devices/system/node/node1/meminfo": node.format(1, 8 * 1048576, 5 * 1048576),
    }
    box = make_box(tmp_path, files)
    first = detect(root=box, affinity=range(4), nvidia_smi=NO_SMI)
    assert (first.cpus, first.memory_bytes, first.memory_available_bytes) == ((0, 1), 4 * GIB, 2 * GIB)
    second = detect(root=box, affinity=(2, 3), nvidia_smi=NO_SMI)
    assert (second.cpus, second.memory_bytes, second.memory_available_bytes) == ((2, 3), 8 * GIB, 6 * GIB)


def test_usable_cores_keeps_at_least_one() -> None:
    assert usable_cores((5, 4), {}, 0.1) == (4,)


@pytest.mark.parametrize(("text", "ids"), [("0-2,4\n", (0, 1, 2, 4)), ("7", (7,)), ("", ())])
def test_kernel_lists(text: str, ids: tuple[int, ...]) -> None:
    assert parse_ids(text) == ids


def test_cpu_flags_of_arm() -> None:
    assert parse_cpu_flags("processor : 0\nFeatures : fp asimd bf16\n") == {"fp", "asimd", "bf16"}
    assert parse_cpu_flags("") == frozenset()


def test_nvidia_smi_output() -> None:
    (gpu,) = parse_gpus(A800 + "\n", {})
    assert gpu.name == "NVIDIA A800-SXM4-80GB"
    assert (gpu.memory_bytes, gpu.memory_available_bytes) == (81920 * MIB, 81153 * MIB)
    assert gpu.bandwidth_bytes == 2039e9
    assert gpu.bf16
    assert gpu.compute_capability == "8.0"


@pytest.mark.parametrize(
    ("line", "bandwidth", "bf16"),
    [
        ("0, GPU-1, Tesla T4, 15360, 14923, 7.5", 320e9, False),
        ("0, GPU-1, Tesla V100-SXM2-32GB, 32768, 32500, 7.0", 900e9, False),
        ("0, GPU-1, NVIDIA A100-SXM4-40GB, 40960, 40000, 8.0", 1555e9, True),
        ("0, GPU-1, NVIDIA A100 80GB PCIe, 81920, 81000, 8.0", 2039e9, True),
        ("0, GPU-1, NVIDIA GeForce RTX 4090, 24564, 24000, 8.9", 1008e9, True),
        # Of the same name but other cards: less memory, more memory, another word. Their bandwidth is not known.
        ("0, GPU-1, NVIDIA GeForce RTX 4090 Laptop GPU, 16376, 16000, 8.9", None, True),
        ("0, GPU-1, NVIDIA H100 NVL, 95830, 95000, 9.0", None, True),
        ("0, GPU-1, NVIDIA A10G, 23028, 22500, 8.6", None, True),
        # An old driver does not know compute_cap: the table does.
        ("0, GPU-1, NVIDIA A10, 23028, 22500, [Not Supported]", 600e9, True),
        ("0, GPU-1, NVIDIA Unheard-of, 23028, 22500, [N/A]", None, False),
    ],
)
def test_cards_are_recognised(line: str, bandwidth: float | None, bf16: bool) -> None:
    (gpu,) = parse_gpus(line, {})
    assert (gpu.bandwidth_bytes, gpu.bf16) == (bandwidth, bf16)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "0, GPU-1, NVIDIA A100-SXM4-40GB, [Insufficient Permissions], [Insufficient Permissions], 8.0\n",
        "0, 1, 2\n\x00\xff,,,,,\n",
    ],
)
def test_garbage_is_no_gpu(text: str) -> None:
    assert parse_gpus(text, {}) == ()


@pytest.mark.parametrize(
    ("visible", "free"),
    [
        (None, [81153, 40000]),
        ("1", [40000]),
        ("1,0", [40000, 81153]),
        ("GPU-bbbb", [40000]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0,7,1", [81153]),
    ],
)
def test_cuda_visible_devices(visible: str | None, free: list[int]) -> None:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    gpus = parse_gpus(f"{A800}\n{SECOND_A800}\n", environ)
    assert [gpu.memory_available_bytes // MIB for gpu in gpus] == free


def program(folder: Path, body: str) -> str:
    """A program that stands for nvidia-smi."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_gpus_of_a_box(tmp_path: Path) -> None:
    smi = program(tmp_path, f'echo "{A800}"; echo "{SECOND_A800}"')
    box = make_box(tmp_path, {})
    assert len(detect(root=box, environ={}, affinity=(0,), nvidia_smi=smi).gpus) == 2
    assert detect(root=box, environ={}, affinity=(0,), nvidia_smi=smi).device == "cuda"
    assert detect("cpu", root=box, environ={}, affinity=(0,), nvidia_smi=smi).gpus == ()


@pytest.mark.parametrize("body", ["exit 9", "echo broken; exit 6", "kill -9 $$"])
def test_a_failing_nvidia_smi_is_no_gpu(tmp_path: Path, body: str) -> None:
    assert query_gpus(program(tmp_path, body)) == ""


def test_a_hanging_nvidia_smi_is_left_behind(tmp_path: Path) -> None:
    started = time.monotonic()
    assert query_gpus(program(tmp_path, "exec sleep 60"), timeout=0.2) == ""
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("device", "environ", "says"),
    [
        ("cuda", {}, "`no-such-nvidia-smi` lists no GPU. Check"),
        ("cuda", {"CUDA_VISIBLE_DEVICES": ""}, 'CUDA_VISIBLE_DEVICES=""'),
        ("gpu", {}, 'device: "gpu" is not one of auto, cpu, cuda'),
    ],
)
def test_a_device_that_is_not_there(tmp_path: Path, device: str, environ: Mapping[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        detect(device, root=make_box(tmp_path, {}), environ=environ, affinity=(0,), nvidia_smi=NO_SMI)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("A800-80G", "A800-80G"),
        ("a800", "A800-80G"),
        ("NVIDIA A800-SXM4-80GB", "A800-80G"),
        ("RTX 4090", "RTX-4090"),
        ("4090", "RTX-4090"),
        ("V100-32GB", "V100-32G"),
        ("L4", "L4"),
        ("NVIDIA H200", "H200"),
    ],
)
def test_cards_by_loose_name(name: str, row: str) -> None:
    assert find_gpu(name).name == row


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("A100", "say A100-40G or A100-80G"),
        ("H20O", 'did you mean "H20"'),
        ("MI300X", "known are T4, V100-16G"),
    ],
)
def test_unknown_cards(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^gpu: ") as refused:
        find_gpu(name)
    assert says in str(refused.value)


def test_the_table_of_cards() -> None:
    assert len(known_gpus()) == 19
    assert {gpu.name for gpu in known_gpus() if not gpu.bf16} == {"T4", "V100-16G", "V100-32G"}
    assert all(find_gpu(gpu.name) is gpu for gpu in known_gpus())


def test_described_boxes() -> None:
    pair = declared("T4", 2)
    assert (pair.device, [gpu.name for gpu in pair.gpus]) == ("cuda", ["T4", "T4"])
    laptop = declared(cpu_memory=16 * GIB)
    assert (laptop.device, laptop.memory_available_bytes, laptop.gpus) == ("cpu", 16 * GIB, ())


@pytest.mark.parametrize("described", [{}, {"gpu": "T4", "cpu_memory": GIB}, {"gpu": "T4", "count": 0}, {"gpu": "T5"}])
def test_boxes_that_cannot_be(described: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        declared(**described)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 * GIB), ("24Gi", 24 * GIB), ("1.5 gb", 1_500_000_000), ("512MiB", 512 * MIB), ("1000", 1000)],
)
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text, "cpu_memory") == size


@pytest.mark.parametrize("text", ["", "GiB", "24 gigs", "-1GiB", "1,5GB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cpu_memory: .* write it like 24GiB"):
        parse_bytes(text, "cpu_memory")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 MiB"), (96 * MIB, "96 MiB"), (103 * MIB, "0.1 GiB"), (12 * GIB, "12.0 GiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_bytes(size) == text
