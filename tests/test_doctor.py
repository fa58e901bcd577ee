"""`xuanyuan doctor`: the facts read from this box, and the command itself."""

import json
import os
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from serving import doctor_installation as installation
from serving.config import ServingConfig
from serving.doctor_facts import Facts, collect, folder, hub_cache, is_free, pin
from serving.hardware import declared, detect
from serving.units import MIB


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
    assert here.engine_torch and here.versions["torch"].startswith(here.engine_torch.partition("+")[0])
    assert here.numa and here.numa.is_file()
    listed = subprocess.run(["df", "--output=avail", "-B1", "/dev/shm"], capture_output=True, text=True, check=True)
    assert abs(here.shared_memory_bytes - int(listed.stdout.split()[1])) < 64 * MIB


def test_a_pin_is_found_whatever_its_extra_and_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2", 'vllm[audio]==0.29.0; extra == "llm"', "vllm-gguf-plugin==1"]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert (pin("any", "vllm"), pin("any", "torch"), pin("any", "ray")) == ("0.29.0", None, None)


def test_settings_that_cannot_be_used_are_told_and_not_raised() -> None:
    facts = collect(declared(cpu_memory=1), {"XUANYUAN_PROT": "1"})
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


def test_hub_cache_is_where_the_hub_library_keeps_it() -> None:
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
