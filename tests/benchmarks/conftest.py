"""Fake servers that tests share."""

from collections.abc import Iterator

import pytest

from benchmarks.__main__ import main
from benchmarks.fake_server import Behaviour, running
from benchmarks.monitor import Limits

# Timing on a busy machine is not what these tests are about.
TOLERANT = Limits(client_cpu=9, loop_lag_ms=1e9, steal=9, send_lag_of_ttft=9, others=9)
BEHAVIOUR = Behaviour(slots=4, ttft=0.02, tpot=0.005)


def exit_code(words: str) -> int:
    """Run a command line of the harness, also one that argparse refuses."""
    try:
        return main(words.split())
    except SystemExit as error:
        return int(str(error.code))


@pytest.fixture(scope="package")
def fake_url() -> Iterator[str]:
    """A server with BEHAVIOUR."""
    with running(BEHAVIOUR) as url:
        yield url
