"""Fetching from a hub: only what is needed, once, resumed; what is cached needs no network; offline has its remedy."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from serving.catalog import load_catalog
from serving.hub import model_name
from tests.fake_hub import COMMIT, FakeHub, serve

CATALOG = load_catalog()
HUBS = ("huggingface", "modelscope")
CHAT = "Duxiaoman-DI/XuanYuan-6B-Chat"
# Hugging Face's client writes in pieces of 10 MB, so a resumed download begins at a multiple of that.
WEIGHTS = bytes(range(256)) * 100_000
MODEL = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "README.md": b"a model",
    "modeling.py": b"print('code')",
    "pytorch_model.bin": b"a pickle",
    "onnx/model.safetensors": b"another",
}
PICKLED = {"config.json": b"{}", "pytorch_model.bin": b"a pickle", "training_args.bin": b"another"}
# Each call runs in a process of its own: the hub libraries read their environment when they are imported.
SCRIPT = """
import json, sys
import serving.hub
from serving.catalog import load_catalog
from serving.errors import ServingError
model, options, seconds = json.loads(sys.argv[1])
serving.hub.ANSWER_SECONDS = seconds
try:
    path, entry = serving.hub.locate(model, load_catalog(), **options)
except ServingError as error:
    sys.exit(f"exit {error.exit_code}: {error}")
print(json.dumps([str(path), entry.name if entry else None]))
"""


@dataclass(frozen=True)
class Found:
    """What `locate` did in its process."""

    path: Path | None
    entry: str | None
    said: str
    seconds: float

    @property
    def files(self) -> set[str]:
        assert self.path is not None, self.said
        return {str(file.relative_to(self.path)) for file in self.path.rglob("*") if file.is_file()}


@dataclass(frozen=True)
class Box:
    """A machine with empty hub caches under `home`, whose hubs are both at `url`."""

    home: Path
    url: str

    @property
    def environ(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "huggingface"),
            "HF_ENDPOINT": self.url,
            "MODELSCOPE_CACHE": str(self.home / "modelscope"),
            "MODELSCOPE_ENDPOINT": self.url,
            "NO_PROXY": "127.0.0.1",
        }

    def locate(self, model: str, hub: str, answer_seconds: float = 8.0, **options: Any) -> Found:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps([model, {"hub": hub} | options, answer_seconds])],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        path, entry = json.loads(done.stdout) if done.returncode == 0 else (None, None)
        return Found(Path(path) if path else None, entry, done.stderr, time.monotonic() - started)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with serve(
        FakeHub({CHAT: MODEL, "bank/tuned": MODEL, "bank/pickled": PICKLED, "bank/empty": {"README.md": b""}})
    ) as hub:
        yield hub


@pytest.fixture
def box(tmp_path: Path, fake: FakeHub) -> Box:
    return Box(tmp_path, fake.url)


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize(("model", "entry"), [("xuanyuan-6b-chat", "XuanYuan-6B-Chat"), ("bank/tuned", None)])
def test_a_model_is_fetched_once_and_only_what_it_needs(
    box: Box, fake: FakeHub, hub: str, model: str, entry: str | None
) -> None:
    found = box.locate(model, hub)
    assert found.files == {"config.json", "tokenizer.json", "model.safetensors"}
    assert found.entry == entry
    assert found.path and (found.path / "model.safetensors").read_bytes() == WEIGHTS
    assert "Fetching" in found.said and "24 MiB" in found.said

    fake.fetched.clear()
    offline = Box(box.home, "http://127.0.0.1:9").locate(model, hub)
    assert (offline.path, offline.said, fake.fetched) == (found.path, "", [])
    assert model_name(offline.path or Path()) == (entry or "tuned")


def test_the_catalogs_revision_is_taken_unless_another_is_asked_for(box: Box) -> None:
    box.locate("XuanYuan-6B-Chat", "huggingface")
    refs = box.home / "huggingface" / "hub" / "models--Duxiaoman-DI--XuanYuan-6B-Chat" / "refs"
    assert (refs / "refs" / "pr" / "1").read_text() == COMMIT
    box.locate("XuanYuan-6B-Chat", "huggingface", revision="main")
    assert (refs / "main").read_text() == COMMIT


@pytest.mark.parametrize("hub", HUBS)
def test_a_connection_that_ends_is_taken_up_again(box: Box, fake: FakeHub, hub: str) -> None:
    fake.breaks_after = 12_000_000
    found = box.locate("bank/tuned", hub)
    assert found.path and (found.path / "model.safetensors").read_bytes() == WEIGHTS
    assert resumed_at(fake) >= 10_000_000


@pytest.mark.parametrize("hub", HUBS)
def test_after_a_download_that_failed_the_next_keeps_what_is_there(
    box: Box, fake: FakeHub, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_MAX_RETRIES", "1")  # by default it tries for half a minute
    fake.breaks_after, fake.for_good = 12_000_000, True
    broken = box.locate("bank/tuned", hub)
    assert broken.path is None
    assert "exit 2: bank/tuned: the download" in broken.said and "Start again" in broken.said

    fake.breaks_after = None
    fake.fetched.clear()
    found = box.locate("bank/tuned", hub)
    assert found.path and (found.path / "model.safetensors").read_bytes() == WEIGHTS
    assert [path for path, _ in fake.fetched] == ["model.safetensors"]
    # Hugging Face's client keeps whole files only (huggingface_hub 2.4, _download_to_tmp_and_move).
    assert hub == "huggingface" or resumed_at(fake) == 12_000_000


def resumed_at(fake: FakeHub) -> int:
    """The byte from which the weights were asked for last."""
    wanted = [header for path, header in fake.fetched if path == "model.safetensors"][-1]
    return int((wanted or "bytes=0-").removeprefix("bytes=").partition("-")[0])


@pytest.mark.parametrize("hub", HUBS)
def test_pickles_are_fetched_only_on_request(box: Box, fake: FakeHub, hub: str) -> None:
    refused = box.locate("bank/pickled", hub)
    assert refused.path is None and fake.fetched == []
    assert "exit 2" in refused.said and "pytorch_model.bin" in refused.said and "--allow-pickle" in refused.said
    assert "pytorch_model.bin" in box.locate("bank/pickled", hub, allow_pickle=True).files
    fake.fetched.clear()
    assert (
        "pytorch_model.bin" in Box(box.home, "http://127.0.0.1:9").locate("bank/pickled", hub, allow_pickle=True).files
    )
    assert box.locate("bank/tuned", hub, allow_pickle=True).files == {
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("Duxiaoman-DI/XuanYuan-6B-Chta", ["no such model", '"XuanYuan-6B-Chat"']),
        ("bank/empty", ["no weights", "*.safetensors"]),
    ],
)
def test_what_the_hub_does_not_have(box: Box, hub: str, model: str, words: list[str]) -> None:
    said = box.locate(model, hub).said
    assert [word for word in ["exit 2", model, *words] if word not in said] == []


@pytest.mark.parametrize("hub", HUBS)
def test_a_revision_that_the_hub_does_not_have(box: Box, hub: str) -> None:
    said = box.locate("bank/tuned", hub, revision="v9").said
    assert "exit 2: bank/tuned" in said and "revision" in said


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("silent", [False, True])
def test_without_network_it_says_soon_what_to_do(box: Box, fake: FakeHub, hub: str, silent: bool) -> None:
    """Nothing listens at the port, or what listens there says nothing."""
    if silent:
        fake.silent.set()
    away = box if silent else Box(box.home, "http://127.0.0.1:9")
    found = away.locate("XuanYuan-6B", hub, answer_seconds=2)
    assert found.seconds < 10
    words = [
        "exit 2",
        "cannot be reached",
        "hf download Duxiaoman-DI/XuanYuan-6B --local-dir XuanYuan-6B",
        "modelscope download Duxiaoman-DI/XuanYuan-6B --local-dir XuanYuan-6B",
        "make serve MODEL=/path/to/XuanYuan-6B",
        "--hub " + next(other for other in HUBS if other != hub),
    ]
    assert [word for word in words if word not in found.said] == []


def models(box: Box, *words: str) -> str:
    command = [sys.executable, "-c", "from serving.cli import main; main()", "models", *words]
    return subprocess.run(command, env=box.environ, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_table_of_models_says_which_are_here(box: Box) -> None:
    box.locate("XuanYuan-6B-Chat", "huggingface")
    box.locate("XuanYuan-6B-Chat", "modelscope")
    heading, *rows = [line.split() for line in models(box).splitlines()]
    assert heading == ["NAME", "FORM", "PROMPT", "CONTEXT", "HUB", "ID", "HERE"]
    assert [row[0] for row in rows] == [entry.name for entry in CATALOG.entries]
    assert rows[1] == ["XuanYuan-6B-Chat", "chat", "6b", "2,048", CHAT, "huggingface", "modelscope"]
    assert rows[3] == ["XuanYuan-6B-Chat-4bit", "chat,", "gptq", "6b", "2,048", f"{CHAT}-4bit", "-"]


def test_the_models_as_json_with_a_users_own(box: Box) -> None:
    found = box.locate("XuanYuan-6B-Chat", "huggingface")
    mine = box.home / "mine.toml"
    mine.write_text('[mine]\ntemplate = "6b"\nchat = true\nstop = ["</s>"]\n', encoding="utf-8")
    rows = {row["name"]: row for row in json.loads(models(box, "--json", "--catalog", str(mine)))}
    assert rows["mine"]["stop"] == ["</s>"] and rows["mine"]["cached"] == {}
    assert rows["XuanYuan-6B-Chat"]["cached"] == {"huggingface": str(found.path)}
    assert rows["XuanYuan-6B-Chat"]["sampling"] == {"temperature": 0.7, "top_p": 0.95, "max_tokens": 256}
