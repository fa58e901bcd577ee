"""Which libraries can be preloaded, asked of the real dynamic loader."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.native import NUMA, find_library, find_preloads, lacks_to_compile


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


def test_what_compiling_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lacks_to_compile({"CXX": "no-such-compiler"}) == "no-such-compiler"
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    assert lacks_to_compile({"CXX": sys.executable}) == "Python.h"
