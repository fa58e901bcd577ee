"""Fake servers that tests share."""

from collections.abc import Iterator

import pytest

from benchmarks.fake_server import Behaviour, running

BEHAVIOUR = Behaviour(slots=4, ttft=0.02, tpot=0.005)


@pytest.fixture(scope="package")
def fake_url() -> Iterator[str]:
    """A server with BEHAVIOUR."""
    with running(BEHAVIOUR) as url:
        yield url
