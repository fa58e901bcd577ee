"""The short benchmark, on fake servers."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.client import Server
from benchmarks.commands import quick
from benchmarks.fake_server import Behaviour, running
from benchmarks.systems import NAMES, Chosen, System
from tests.benchmarks.conftest import TOLERANT


@pytest.fixture(autouse=True)
def never_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing on a busy machine is not what these tests are about."""
    monkeypatch.setattr("benchmarks.options.limits", lambda args: TOLERANT)


def test_it_stops_in_time_with_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quick, "RESERVE_S", 60 * quick.MINUTES - 4)
    monkeypatch.setattr(quick, "CONCURRENCY", (1, 4))
    monkeypatch.setattr(quick, "RATE", 20.0)
    monkeypatch.setattr(quick, "RATE_SECONDS", 0.2)
    with running(Behaviour(8, 0.01, 0.005)) as url:
        words = f"quick --url a={url} --url b={url} --out {tmp_path}"
        assert main(words.split()) == 0
    shown = capsys.readouterr()
    # How many turns come before the end depends on how busy the machine is; that it ends with what it has does not.
    assert "at most 10 minutes" in shown.err and "the time is over" in shown.err
    result = json.loads(shown.out.splitlines()[-1])
    assert 0 < result["blocks"] < 2 * 3 * 4 * 3
    assert {path.name for path in tmp_path.iterdir()} >= {"report.html", "report.json"}


def test_the_baselines_that_it_leaves_out_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what they lack, or how they are measured: in the text, the JSON line and the report."""
    for name, value in {"CONCURRENCY": (1,), "RATE": 20.0, "RATE_SECONDS": 0.2, "ROUNDS": 1}.items():
        monkeypatch.setattr(quick, name, value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with running(Behaviour(8, 0.01, 0.001)) as url:
        systems = tuple(System(name, Server(url)) for name in quick.SYSTEMS)
        monkeypatch.setattr(quick, "choose", lambda *asked: Chosen(systems, None))
        assert main(["quick", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "llama.cpp is absent: there is no llama-server on PATH; install llama.cpp" in shown
    assert set(json.loads(shown.splitlines()[-1])["absent"]) == set(NAMES) - set(quick.SYSTEMS)
    assert "no llama-server on PATH" in (tmp_path / "report.html").read_text(encoding="utf-8")
