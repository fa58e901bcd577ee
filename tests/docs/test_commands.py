"""Every block of commands in the guides is run as it stands, or says why not. Only harmless ones are ever run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from serving.demo import default_cache
from tests.docs.harmless import objections
from tests.docs.pages import COMMAND, Block, blocks, pages
from tests.docs.source import HOLE, ROOT
from tests.server_process import ServerProcess

# Their blocks are run by tests/test_readme.py, or start the server as tests/test_lifecycle.py does.
READMES = ("README.md", "README.zh-CN.md")
WITH_A_SERVER = ("run", "with a server")
BLOCKS = [
    block
    for page in pages()
    if str(page) not in READMES
    for block in blocks(page)
    if block.language in (*COMMAND, "python")
]


def once(several: Iterable[Block]) -> list[Block]:
    """Each block once: a page in the other language has the same commands, with other comments."""
    found: dict[str, Block] = {}
    for block in several:
        found.setdefault(re.sub(r"\s+#.*", "", block.code), block)
    return list(found.values())


def marks(block: Block) -> list[pytest.MarkDecorator]:
    """`render` loads the tokenizer's library each time: seconds."""
    return [pytest.mark.slow] if "xuanyuan render" in block.code_alone else []


# Whatever a page says, what is not harmless is not run: not even when a note is missing.
ALONE = once(each for each in BLOCKS if each.note == ("", "") and not objections(each.code_alone))
WITH_ONE = once(
    each for each in BLOCKS if each.note == WITH_A_SERVER and not objections(each.code_alone, with_a_server=True)
)
SHELL = ("bash", "-euo", "pipefail", "-c")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout, and into which a command may write."""
    for path in ROOT.iterdir():
        if path.name[0] != "." or path.name == ".venv":
            (tmp_path / path.name).symlink_to(path)
    return tmp_path


def environ(home: Path) -> dict[str, str]:
    """As after `make install`, with the commands of .venv on the PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XUANYUAN_")}
    cache = {"HF_HOME": str(home / "huggingface"), "XUANYUAN_CACHE": str(default_cache())}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **cache, "HOME": str(home), "PATH": path, "HF_HUB_OFFLINE": "1"}


def run(command: str, folder: Path, home: Path) -> "subprocess.CompletedProcess[str]":
    """One command or several, as one script."""
    command = re.sub(r"\bDIR\b", str(home / "tokenizer"), command)
    return subprocess.run(
        [*SHELL, command],
        cwd=folder,
        env=environ(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=250,
    )


def session(code: str) -> Iterator[tuple[str, str]]:
    """The commands of a `console` block, each with the output that the page shows."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def pattern(output: str) -> str:
    """What a page shows, as a regular expression: HOLE stands for anything."""
    return ".*".join(map(re.escape, output.strip().split(HOLE)))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run_or_says_why_not(block: Block) -> None:
    kind, text = block.note
    if kind == "not run":
        assert len(text) > 8, "give the reason"
        return
    assert block.note in (("", ""), WITH_A_SERVER), block.note
    assert block.language != "python" or kind, "python blocks are run with a server, or not at all"
    wrong = objections(block.code_alone, with_a_server=block.note == WITH_A_SERVER)
    assert wrong == [], "not known to be harmless: put <!-- not run: WHY --> before the block"


@pytest.mark.parametrize(
    "code",
    [
        "xuanyuan serve",
        "xuanyuan serve MODEL --ray",
        "xuanyuan models && xuanyuan serve",
        "xuanyuan fetch MODEL",
        "xuanyuan keys add NAME --keys-file /etc/xuanyuan/keys.json",
        "xuanyuan keys add NAME --keys-file ../keys.json",
        "XUANYUAN_KEYS_FILE=/etc/xuanyuan/keys.json xuanyuan keys add NAME",
        "export XUANYUAN_KEYS_FILE=/etc/xuanyuan/keys.json",
        "xuanyuan ray-config --keys-file=/etc/xuanyuan/keys.json",
        "xuanyuan models > /etc/motd",
        "xuanyuan models >/etc/motd",
        "xuanyuan models | tee /etc/motd",
        "xuanyuan models & ",
        "echo $(rm -r .)",
        "echo `id`",
        "install -d /etc/xuanyuan",
        "git clone … /opt/xuanyuan && make -C /opt/xuanyuan install",
        "sudo xuanyuan models",
        "curl -s http://127.0.0.1:8000",
        "helm install demo .",
        "make serve",
        "python -m benchmarks quick",
        "cat <<'TOML' > /etc/x\n1\nTOML\n",
        "echo 'unfinished",
    ],
)
def test_what_is_not_known_to_be_harmless_is_not_run(code: str) -> None:
    assert objections(code)


def test_a_server_allows_clients_and_no_more() -> None:
    assert objections("curl -s http://127.0.0.1:8000/ready | grep ready", with_a_server=True) == []
    assert objections("curl -s -o /etc/motd http://127.0.0.1:8000/ready", with_a_server=True)
    assert objections("xuanyuan serve", with_a_server=True)


@pytest.mark.parametrize("block", [pytest.param(each, marks=marks(each)) for each in ALONE], ids=str)
def test_commands_run(block: Block, checkout: Path, home: Path) -> None:
    if block.language == "sh":
        done = run(block.code, checkout, home)
        assert done.returncode == 0, done.stdout
        return
    for command, output in session(block.code):
        done = run(command, checkout, home)
        assert re.fullmatch(pattern(output), done.stdout.strip(), re.DOTALL), f"{command}\n{done.stdout}"


@pytest.mark.engine
@pytest.mark.parametrize("block", WITH_ONE, ids=str)
def test_commands_run_with_a_server(block: Block, checkout: Path, home: Path, demo_server: ServerProcess) -> None:
    code = block.code.replace("http://127.0.0.1:8000", demo_server.url)
    url = f"--url {demo_server.url}"
    code = re.sub(r"^(xuanyuan batch|python -m benchmarks load)", rf"\1 {url}", code, flags=re.MULTILINE)
    # How long an answer becomes is the model's affair.
    code = re.sub(r"^(xuanyuan chat)", rf"\1 {url} --max-tokens 32", code, flags=re.MULTILINE)
    if block.language == "python":
        (checkout / "example.py").write_text(code)
        code = "python example.py"
    done = run(code, checkout, home)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.split()) > 3
    assert '"error"' not in done.stdout


def test_a_session_is_compared_with_what_the_page_shows() -> None:
    (shown,) = session("$ seq 4\n1\n…\n4\n")
    assert re.fullmatch(pattern(shown[1]), "1\n2\n3\n4", re.DOTALL)
    assert not re.fullmatch(pattern(shown[1]), "1\n2\n3\n5", re.DOTALL)
