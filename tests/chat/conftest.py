"""A scripted server a test."""

from collections.abc import Iterator

import pytest

from tests.chat.scripted_server import ScriptedServer, running


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that answers what `server.script(…)` says."""
    with running() as script:
        yield script
