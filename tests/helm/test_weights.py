"""The init container's own command against a hub: it fetches, checks, and finds its work done the next time."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_hub import FakeHub, serve
from tests.helm.chart import Document, render
from tests.helm.container import Container, container
from tests.tiny_checkpoint import make_tiny

MODEL = "org/tiny"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that has a small checkpoint."""
    folder = make_tiny(tmp_path / "hub" / "tiny")
    with serve(FakeHub({MODEL: {path.name: path.read_bytes() for path in folder.iterdir()}})) as found:
        yield found


def values(hub: FakeHub, kind: str) -> Document:
    """The chart's values for this hub."""
    return {
        "config": {"model": MODEL, "hub": kind, "template": "none"},
        "weights": {"volume": "claim", "endpoint": hub.url},
    }


def fetch(started: Container) -> subprocess.CompletedProcess[str]:
    """Run the init container to its end."""
    return subprocess.run(started.argv, env=started.env, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
def test_fetched_once_and_then_served_without_a_hub(tmp_path: Path, hub: FakeHub, kind: str) -> None:
    documents = render(values(hub, kind))
    first = fetch(container(documents, tmp_path / "pod", init=True))
    assert first.returncode == 0, first.stderr
    assert "Fetching org/tiny" in first.stderr
    assert "of weights, whole" in first.stderr
    asked = len(hub.fetched)
    assert asked >= 4

    again = fetch(container(documents, tmp_path / "pod", init=True))
    assert again.returncode == 0, again.stderr
    assert len(hub.fetched) == asked

    # The server's own environment finds the same folder, and asks nobody.
    server = container(documents, tmp_path / "pod")
    done = subprocess.run(
        [*server.argv, "--dry-run", "--json"], env=server.env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["model"]).is_relative_to(server.folders["/weights"])
    assert len(hub.fetched) == asked


def test_what_is_wrong_keeps_the_pod_from_starting(tmp_path: Path, hub: FakeHub) -> None:
    """A checkpoint that lacks a part ends the init container with what is missing."""
    del hub.models[MODEL]["tokenizer.json"]
    done = fetch(container(render(values(hub, "huggingface")), tmp_path / "pod", init=True))
    assert done.returncode == 2
    assert "tokenizer" in done.stderr
    assert "Traceback" not in done.stderr
