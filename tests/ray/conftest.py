"""One Ray with two replicas of the demo, which most tests here share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.ray_process import RayProcess


@pytest.fixture(scope="session")
def demo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayProcess]:
    """Takes the place of the launcher's own `demo_server` for all tests in this folder."""
    server = RayProcess(
        ["--replicas", "2", "--enforce-eager", "--max-model-len", "2048", "--kv-cache-memory-bytes", "100000000"],
        tmp_path_factory.mktemp("ray_demo"),
    )
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The family's architecture with four layers: where several replicas share two cores, the demo is too heavy."""
    from tests.family import make_family_checkpoint

    return make_family_checkpoint(tmp_path_factory.mktemp("small") / "XuanYuan-small-Chat", layers=4)
