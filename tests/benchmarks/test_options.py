"""Flags: what they mean, and what is refused."""

from argparse import ArgumentTypeError, Namespace
from pathlib import Path

import pytest

from benchmarks.client import Server
from benchmarks.metrics import Slo
from benchmarks.options import parse_slo, server


def test_slo_texts() -> None:
    assert parse_slo("ttft=1000ms,tpot=0.1s") == Slo(ttft=1.0, tpot=0.1)
    assert parse_slo("e2el=2s") == Slo(e2el=2.0)


@pytest.mark.parametrize("text", ["", "ttft", "ttft=fast", "e2el=2", "latency=1s", "ttft=0ms", "ttft=1s;tpot=2s"])
def test_slo_texts_that_mean_nothing(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="expected ttft, tpot or e2el and a time"):
        parse_slo(text)


def test_the_key_comes_from_a_file_or_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from-env")
    found = server(Namespace(url="http://x/v1/", api_key_file=None))
    assert found == Server("http://x", {"Authorization": "Bearer from-env"})
    (tmp_path / "key").write_text("from-file\n")
    found = server(Namespace(url="http://x", api_key_file=tmp_path / "key"))
    assert found.headers == {"Authorization": "Bearer from-file"}
