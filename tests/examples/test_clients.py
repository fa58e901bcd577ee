"""Every command of examples/README.md against the real server, which asks for a key, as a user runs it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import playwright
import pytest

from tests.examples.pages import EXAMPLES, ROOT, commands
from tests.keyed_server import RealServer
from tests.server_process import XUANYUAN

pytestmark = [pytest.mark.engine, pytest.mark.slow]
CLIENTS = ROOT / ".venv-examples"
OLDEST_NODE = 22
# What stands in a good answer. The demo model knows these words; temperature 0 leaves little to chance.
ANSWERS = {
    "openai_sdk.py": r"(?i)\bbonds?\b",
    "openai_sdk.js": r"(?i)\bbonds?\b",
    "anthropic_sdk.py": r"(?i)company|business|owner",
    "langchain_chat.py": r"(?is)^bond: .*\bbonds?\b.*^stock: .*\bstocks?\b",
    "litellm_chat.py": r"(?i)\bbonds?\b",
    "llm.sh": r"(?i)\bbonds?\b",
    "curl.sh": r'(?s)^Model: SmolLM2.*"content":" bond".*data: \[DONE\].*"text":" \w',
    "rag.py": r"(?s)Found:\nThe Harbour Bond Fund lends.*Answer: .*0\.35",
    "batch.sh": r"(?s)(?=.*^bond: .*\bbond)(?=.*^stock: .*\bstock)(?=.*^债券: .)(?=.*^text: .)",
}


def node() -> str:
    """The folder of a Node that is new enough: the system's, or the one that the browser's driver brings."""
    system = shutil.which("node")
    for found in (Path(system) if system else None, Path(playwright.__file__).parent / "driver" / "node"):
        if found and found.exists():
            version = subprocess.run([str(found), "--version"], capture_output=True, text=True, check=True).stdout
            if int(version.strip("v\n").split(".")[0]) >= OLDEST_NODE:
                return str(found.parent)
    pytest.skip(f"Node {OLDEST_NODE} or newer was not found")


def path_for(command: str) -> str:
    """PATH after `source .venv-examples/bin/activate`. Skips where what the command needs is not installed."""
    if not (CLIENTS / ".installed").exists():
        pytest.skip("the clients are not installed: make examples")
    folders = [str(CLIENTS / "bin"), str(Path(XUANYUAN).parent), os.environ["PATH"]]
    if command.startswith("node"):
        if not (EXAMPLES / "javascript" / "node_modules" / "openai").exists():
            pytest.skip("npm's client is not installed: apt-get install npm, then make examples")
        folders.insert(0, node())
    return os.pathsep.join(folders)


def run(command: str, url: str, key: str, home: Path) -> "subprocess.CompletedProcess[str]":
    """One command, from the root of the checkout; what it writes goes to `home`."""
    environ = {
        "PATH": path_for(command),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": key,
    }
    words = command.replace("answers.jsonl", str(home / "answers.jsonl"))
    return subprocess.run(["bash", "-c", words], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize("command", commands(), ids=lambda command: Path(command.split()[1]).name)
def test_the_command_answers(command: str, real: RealServer, tmp_path: Path) -> None:
    done = run(command, real.url, real.secrets["plain"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(ANSWERS[Path(command.split()[1]).name], done.stdout, re.MULTILINE), done.stdout
    assert "Traceback" not in done.stderr


def test_it_was_the_key_that_opened_the_server(real: RealServer, tmp_path: Path) -> None:
    done = run("bash examples/curl.sh", real.url, "xy-wrong", tmp_path)
    assert done.returncode == 1
    assert "401" in done.stderr and '"invalid_api_key"' in done.stderr


@pytest.mark.parametrize(
    ("question", "passage"),
    [
        ("储蓄账户的利率", "磐石储蓄账户的年利率"),
        ("What does the Granite account pay a year?", "The Granite Savings Account pays 2.1 percent"),
    ],
)
def test_the_right_passage_is_found(question: str, passage: str, real: RealServer, tmp_path: Path) -> None:
    done = run(f"python examples/rag.py '{question}'", real.url, real.secrets["plain"], tmp_path)
    assert done.stdout.startswith(f"Found:\n{passage}"), done.stdout + done.stderr
    assert done.stdout.partition("Answer: ")[2].strip()


def test_what_the_other_programs_send_is_answered(real: RealServer) -> None:
    """examples/programs.md: from a container, by the host's name there, with the fields that they add."""
    headers = {"Authorization": f"Bearer {real.secrets['plain']}", "Host": "host.docker.internal:8000"}
    with httpx.Client(base_url=f"{real.url}/v1", headers=headers, timeout=120) as client:
        model = client.get("/models").raise_for_status().json()["data"][0]
        assert model["max_model_len"] == 8192
        messages = [{"role": "user", "content": "ping"}]
        request = {"model": model["id"], "messages": messages, "max_tokens": 5, "user": "anybody"}
        assert client.post("/chat/completions", json=request).raise_for_status().json()["choices"][0]["message"]
        stream = {**request, "stream": True, "stream_options": {"include_usage": True}}
        events = client.post("/chat/completions", json=stream).raise_for_status().text
        assert '"completion_tokens":5' in events and events.rstrip().endswith("data: [DONE]")
