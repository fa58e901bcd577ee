"""The command line from outside: help, exit codes, errors in one line, and what is not imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from serving import __version__
from serving.cli import COMMANDS
from tests.server_process import xuanyuan

HEAVY = ("torch", "vllm", "transformers", "ray", "numpy", "pydantic", "aiohttp", "fastapi")


@pytest.mark.parametrize("args", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_is_there_and_imports_nothing_heavy(args: list[str]) -> None:
    """Importing is what makes a command slow; and what is imported does not depend on how busy the box is."""
    code = (
        "import sys, json; from serving.cli import main\n"
        f"sys.argv = ['xuanyuan', *{args!r}]\n"
        "try: main()\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["serv"], ["no command 'serv'", "serve"]),
        (["serve", "--prot", "1"], ["--prot", "--port"]),
        (["serve", "--por", "1"], ["--por", "--port"]),
        (["serve", "--port", "x"], ["--port", "'x'"]),
        (["serve", "--device", "tpu"], ["--device", "'tpu'", "cuda"]),
        (["serve", "--host", "0.0.0.0"], ["0.0.0.0", "keys_file", "allow_anonymous"]),
        (["serve", "--host", "no.such.host.invalid", "--allow-anonymous"], ["no.such.host.invalid"]),
        (["serve", "/no/such/folder"], ["/no/such/folder"]),
        (["serve", "XuanYuan-6B-Chatt"], ["XuanYuan-6B-Chatt", "XuanYuan-6B-Chat"]),
        (["serve", "--config", "no-such.toml"], ["no-such.toml"]),
        (["serve", "--demo-form", "fp4"], ["fp4", "gptq-4bit"]),
        (["serve", "--engine-log", "/proc/no/log", "--port", "0"], ["/proc/no/log"]),
        (["serve", "--engine-log", "/dev/stdout", "--port", "0"], ["/dev/stdout", "'-'"]),
        (["serve", "--keys-file", "/no/such/keys.json", "--port", "0"], ["/no/such/keys.json"]),
        (["serve", "--rate-limit-storage", "bogus://x", "--port", "0"], ["rate_limit_storage", "memory://"]),
        (["serve", "--host", "a..b", "--allow-anonymous"], ["a..b"]),
        (["serve", "--json"], ["--json", "--dry-run"]),
        (["serve", "--dry-run", "--", "--model", "x"], ["--model after --"]),
        (["serve", "--dry-run", "--", "--api-server-count", "2"], ["--api-server-count after --"]),
        (["serve", "--dry-run", "--", "--api_server_count=2"], ["--api_server_count after --"]),
        (["serve", "--dry-run", "--replicas", "2"], ["replicas=2", "--ray"]),
        (["serve", "--dry-run", "--ray", "--ray-gpu", "L20X"], ["L20X", "L20"]),
        (["serve", "a", "=b"], ["=b"]),
        (["serve", "a", " "], ["unrecognized"]),
        (["doctor", "--", "--bogus"], ["--bogus"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_mistake_is_one_line_and_exit_code_2(args: list[str], words: list[str]) -> None:
    done = xuanyuan(*args)
    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_version_is_the_changelog_s_newest() -> None:
    assert xuanyuan("--version").stdout == f"xuanyuan {__version__}\n"
    root = Path(__file__).parent.parent
    newest = next(line for line in (root / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert newest.split()[1] == __version__
    assert f'version = "{__version__}"' in (root / "pyproject.toml").read_text()


@pytest.mark.parametrize("redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(redirection: str) -> None:
    command = f"{Path(sys.executable).parent}/xuanyuan config {redirection}"
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True).returncode == 0


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    command = f"{Path(sys.executable).parent}/xuanyuan config --markdown > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 3
    assert "No space left" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{Path(sys.executable).parent}/xuanyuan config --markdown | head -n 1"],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
