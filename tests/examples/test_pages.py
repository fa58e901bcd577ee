"""The examples as files: short, each in the table of examples/README.md, asked for nowhere but where the user says."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from serving.batch_file import read_batch
from tests.examples.pages import EXAMPLES, ROOT, commands, programs

PROGRAMS = programs()


def test_the_table_names_every_program() -> None:
    named = {ROOT / command.split()[1] for command in commands()}
    assert named == set(PROGRAMS)
    assert len(named) == len(commands()) >= 9


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_a_program_is_short_and_goes_where_it_is_told(program: Path) -> None:
    text = program.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    assert max(map(len, text.splitlines())) <= 120
    assert set(re.findall(r"https?://[^\s\"'}/]+", text)) <= {"http://127.0.0.1:8000"}
    maker = "ANTHROPIC" if "anthropic" in program.name else "OPENAI"
    assert {f"{maker}_BASE_URL", f"{maker}_API_KEY"} <= set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", text))


@pytest.mark.parametrize("program", [path for path in PROGRAMS if path.suffix == ".sh"], ids=lambda path: path.name)
def test_shell_scripts_are_well_formed(program: Path) -> None:
    done = subprocess.run(["bash", "-n", str(program)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_batch_is_one() -> None:
    assert len(read_batch(EXAMPLES / "batch.jsonl")) == 4


def test_npms_lock_holds_what_package_json_asks_for_and_names_no_host() -> None:
    folder = EXAMPLES / "javascript"
    asked = json.loads((folder / "package.json").read_text())["dependencies"]
    text = (folder / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    for name, version in asked.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    assert all(found.get("integrity", "").startswith("sha512-") for name, found in packages.items() if name)
    assert "://" not in text
