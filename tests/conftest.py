"""Servers and checkpoints that many tests share: each is made once a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.demo import FORMS, demo_checkpoint
from tests.keyed_server import RealServer, with_keys
from tests.server_process import ServerProcess


@pytest.fixture(scope="session")
def demo() -> Path:
    """The demo checkpoint, from the user's cache."""
    return demo_checkpoint("bf16")


@pytest.fixture(scope="session")
def family_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """XuanYuan-6B's architecture, scaled down, with random weights and a tokenizer like the family's."""
    from tests.family import make_family_checkpoint

    return make_family_checkpoint(tmp_path_factory.mktemp("family") / "XuanYuan-tiny-Chat")


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`make serve` without a model: the demo in bf16, compiled as it is for a user."""
    yield from running(["--no-enforce-eager"], tmp_path_factory.mktemp("demo_server"))


@pytest.fixture(scope="session", params=[form for form in FORMS if form != "bf16"])
def form_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The demo's other forms, one after the other."""
    yield from running(["--demo-form", request.param], tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def family_server(family_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The tiny family checkpoint behind the family's 6b template."""
    args = [str(family_checkpoint), "--template", "6b", "--dtype", "float32"]
    yield from running(args, tmp_path_factory.mktemp("family_server"))


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """The demo model behind keys."""
    yield from real_server(tmp_path_factory.mktemp("real"))


def real_server(folder: Path) -> Iterator[RealServer]:
    """The demo model behind keys, for as long as the fixture lives."""
    args, secrets = with_keys(folder)
    for process in running(args, folder):
        yield RealServer(process, secrets)


def running(args: list[str], folder: Path) -> Iterator[ServerProcess]:
    """A server for as long as the fixture lives."""
    server = ServerProcess(args, folder)
    try:
        yield server.wait_ready()
    finally:
        server.stop()
