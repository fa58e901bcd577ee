"""What the READMEs tell people to type works as it stands, but for the port."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.cli import COMMANDS
from tests.server_process import ServerProcess

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")


def blocks(name: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.engine
@pytest.mark.parametrize("name", READMES)
def test_the_python_client(demo_server: ServerProcess, name: str) -> None:
    (code,) = blocks(name, "python")
    code = code.replace("http://127.0.0.1:8000", demo_server.url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3


@pytest.mark.engine
@pytest.mark.parametrize("name", READMES)
def test_the_curl_line(demo_server: ServerProcess, name: str) -> None:
    (line,) = [block for block in blocks(name, "sh") if block.startswith("curl")]
    line = line.replace("http://127.0.0.1:8000", demo_server.url)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


@pytest.mark.parametrize("name", READMES)
def test_every_make_target_and_command_exists(name: str) -> None:
    text = (ROOT / name).read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= targets
    )
    assert set(re.findall(r"`xuanyuan ([a-z-]+)", text)) <= COMMANDS.keys()


@pytest.mark.parametrize("name", READMES)
def test_every_file_that_is_linked_exists(name: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_both_languages_have_the_same_commands() -> None:
    english, chinese = ([*blocks(name, "sh"), *blocks(name, "python")] for name in READMES)
    strip = [[re.sub(r"\s*#.*", "", block) for block in language] for language in (english, chinese)]
    assert strip[0] == strip[1]
