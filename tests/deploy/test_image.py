"""The Dockerfile as text: linted, in step with the locks, and what goes into it. `test_image_build.py` builds it."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, ROOT, SCRIPTS, run

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPLETE = DEPLOY / "image" / "complete.py"
to_install = runpy.run_path(str(COMPLETE))["to_install"]
LOCK = """# Compiled.
ray[llm]==2.60.0 \\
    --hash=sha256:aa
vllm==0.29.0 ; sys_platform == 'linux' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
Zope.Interface==7.0 \\
    --hash=sha256:dd
"""


def test_hadolint_has_nothing_to_say() -> None:
    linted = run(SCRIPTS / "hadolint", "--no-color", "--failure-threshold", "style", ROOT / "Dockerfile")
    assert (linted.returncode, linted.stdout) == (0, "")


def test_hadolint_would_say_something() -> None:
    bad = subprocess.run(
        [SCRIPTS / "hadolint", "-"], input=DOCKERFILE.replace("USER 10001:10001\n", ""), capture_output=True, text=True
    )
    assert bad.returncode == 1 and "DL3002" in bad.stdout


def argument(name: str) -> str:
    (value,) = re.findall(rf"(?m)^ARG {name}=(\S+)$", DOCKERFILE)
    return value


def test_versions_are_those_of_the_locks() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.findall(r"(?m)^TORCH_CPU := (\S+)$", makefile) == [argument("TORCH_CPU")]
    assert re.findall(r"(?m)^TORCH_CPU_INDEX := (\S+)$", makefile) == [argument("TORCH_CPU_INDEX")]
    assert f"vllm=={argument('CUDA_BASE').rpartition(':v')[2]} " in (ROOT / "requirements" / "cuda.txt").read_text()
    (version,) = re.findall(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())
    assert set(re.findall(r'image\.version="(.+?)"', DOCKERFILE)) == {version}


def test_both_targets_end_alike() -> None:
    endings = re.findall(r"(?m)^WORKDIR /home/xuanyuan\n(?:.+\n)+", DOCKERFILE)
    assert len(endings) == 2
    assert {re.sub(r"start-period=\d+m", "start-period=", ending) for ending in endings} == {
        "WORKDIR /home/xuanyuan\nUSER 10001:10001\nEXPOSE 8000\n"
        'HEALTHCHECK --interval=15s --timeout=6s --start-period= --retries=3 CMD ["xuanyuan-healthcheck"]\n'
        'ENTRYPOINT ["xuanyuan"]\nCMD ["serve", "--host", "0.0.0.0", "--port", "8000"]\n'
    }


def test_only_listed_files_go_in() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*" and "!tests" not in rules and "!.git" not in rules
    packages = re.findall(r'"([a-z_]+)"', re.findall(r"packages = \[(.+?)\]", (ROOT / "pyproject.toml").read_text())[0])
    assert {f"!{name}" for name in packages} <= set(rules)


@pytest.mark.parametrize(
    ("installed", "wanted"),
    [
        ({"vllm": "0.29.0"}, ["ray", "Zope.Interface"]),
        ({"vllm": "0.29.0+cu129", "ray": "2.60.0", "zope-interface": "6.0"}, []),
        ({"vllm": "0.29.0", "ray": "2.59.0", "zope-interface": "7.0"}, ["ray"]),
    ],
)
def test_an_engine_image_gets_what_it_lacks(installed: dict[str, str], wanted: list[str]) -> None:
    text = to_install(LOCK, "vllm", ["ray"], installed)
    assert re.findall(r"(?m)^([\w.]+)(?:\[.*?\])?==", text) == wanted
    assert text.count("--hash") == len(wanted)


@pytest.mark.parametrize("installed", [{}, {"vllm": "0.28.0"}])
def test_an_image_of_another_engine_version_is_refused(installed: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"expected 0\.29\.0, as the lock says"):
        to_install(LOCK, "vllm", ["ray"], installed)


def test_the_refusal_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(LOCK.replace("vllm", "no-such-engine"))
    done = run(sys.executable, COMPLETE, tmp_path / "lock.txt", "no-such-engine")
    assert done.returncode == 1
    assert "this image has no-such-engine (none): expected 0.29.0" in done.stderr and "Traceback" not in done.stderr


def test_the_lock_for_gpus_is_read_whole() -> None:
    lock = (ROOT / "requirements" / "cuda.txt").read_text()
    text = to_install(lock, "vllm", [], {"vllm": "0.29.0"})
    names = re.compile(r"(?m)^[A-Za-z0-9].*==")
    assert len(names.findall(text)) == len(names.findall(lock)) - 1
