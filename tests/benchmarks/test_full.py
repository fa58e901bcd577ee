"""The whole benchmark on fake servers: every stage, killed in the middle, gone on with, and its report."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.growth import growth
from benchmarks.leftover import sweep, write_down
from benchmarks.report import build
from benchmarks.systems import ROOT

# A launcher and a plain server that differ, a baseline that is absent; loads that take seconds. The flags come after.
SCRIPT = """
import sys
from benchmarks import options, stages
from benchmarks.__main__ import entry
from benchmarks.client import Server
from benchmarks.commands import full
from benchmarks.systems import Chosen, System
from tests.benchmarks.conftest import TOLERANT
from tests.benchmarks.test_compare import fake

options.limits = lambda args: TOLERANT
stages.CONCURRENCY, stages.RATE_SECONDS = (1, 8), 0.3
stages.REQUESTS, stages.PROMPTS = (2, 4, 8), (8, 16, 32)
systems = (
    fake("launcher", "--tpot-ms", "6", "--ttft-ms", "5"),
    fake("plain", "--tpot-ms", "12", "--ttft-ms", "5"),
    fake("llama.cpp", "--tpot-ms", "12", "--ttft-ms", "5"),
    System("hf", Server(""), absent="transformers is not installed"),
)
full.choose = lambda *asked: Chosen(systems, None)
words = "full --rounds 2 --output-len 6 --seconds 0.2 --slo ttft=40ms --attain 0.5 --rate 20"
sys.argv[1:] = [*words.split(), *sys.argv[1:]]
entry()
"""


def started(folder: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, "--out", str(folder), *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kept(folder: Path) -> dict[str, int]:
    """Everything that was measured, and when it was written."""
    blocks = [path for path in folder.rglob("*.json") if path.parent.name == "blocks" or "-0" in path.name]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in blocks}


def killed_after(folder: Path, line: str) -> list[psutil.Process]:
    """Run until stderr shows the line, then SIGKILL; the servers that are left."""
    with started(folder) as run:
        assert run.stderr is not None
        while line not in (shown := run.stderr.readline()):
            assert shown, "it ended before it was killed"
        servers = psutil.Process(run.pid).children()
        run.kill()
    return servers


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run that was killed twice, in a comparison and in a search, and its last line."""
    folder = tmp_path_factory.mktemp("full")
    left = killed_after(folder, "[3 of 6")
    before = kept(folder)
    assert 0 < len(before) < 12 and len(left) == 2 and all(server.is_running() for server in left)
    left += killed_after(folder, "% within the SLO")
    assert before.items() <= kept(folder).items()
    before = kept(folder)
    with started(folder) as run:
        out, shown = run.communicate(timeout=120)
    assert run.returncode == 0, shown
    assert before.items() <= kept(folder).items() and len(kept(folder)) > len(before)
    assert not any(server.is_running() for server in left)
    assert "main: launcher and plain: done before" in shown and "min left" in shown
    return folder, out.splitlines()[-1]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_after_its_last_block(whole: tuple[Path, str]) -> None:
    """The fixture asserts what this is about; here, that the end is what a run without a break has."""
    folder, line = whole
    names = {path.parts[len(folder.parts)] for path in folder.rglob("blocks/*.json")}
    assert names == {"main", "against-llama.cpp", "growth"}
    assert not list(folder.rglob("*.part")) and not list(folder.rglob("*.pid"))
    # Arms x points x rounds.
    assert len(list((folder / "main" / "blocks").iterdir())) == 3 * 3 * 2
    assert len(list((folder / "growth" / "blocks").iterdir())) == 3 * 6 * 2
    assert json.loads(line)["absent"] == {"hf": "transformers is not installed"}


@pytest.mark.slow
def test_the_report_of_all_stages(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    result = build(folder)
    ratios = {(r["second"], r["point"]): r["ratio"]["value"] for r in result["ratios"] if r["metric"] == "mean_tpot_ms"}
    assert {second for second, _ in ratios} == {"plain", "llama.cpp"}
    assert ratios["plain", "c8"] == pytest.approx(2, rel=0.25)
    assert {item["arm"] for item in result["points"]} == {"launcher", "launcher again", "plain", "llama.cpp"}
    assert {item["arm"] for item in result["breakdown"]} == {"launcher", "plain", "llama.cpp"}
    assert set(result["growth"]) == {"requests", "prompt"} and set(result["growth"]["prompt"]) == {"launcher", "plain"}
    assert set(result["capacity"]) == {"launcher", "plain"} and set(result["startup"]["ratios"]) > {"plain"}
    assert result["blocks"][0].keys() >= {"backend", "model_id", "num_prompts", "request_throughput", "p99_ttft_ms"}
    html = (folder / "report.html").read_text()
    for heading in ("Within the SLO", "Ratios", "Where the time goes", "Growth", "Start-up", "Over time", "On a GPU"):
        assert f"<h2>{heading}</h2>" in html
    assert "absent: transformers is not installed" in html and "NaN" not in html
    assert re.findall(r"""(?:src|href)=|url\(|@import|<script|<link""", html) == []
    json.dumps(result, allow_nan=False)


@pytest.mark.slow
def test_another_configuration_is_refused_with_what_differs(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    with started(folder, "--input-len", "50", "--think-time", "7") as run:
        _, shown = run.communicate(timeout=60)
    assert run.returncode == 3 and shown.count("\n") == 1
    assert "input_len: 100 before, now 50; think_time: 20 before, now 7.0" in shown


def test_a_number_that_went_to_another_process_is_left_alone(tmp_path: Path) -> None:
    """Processes are known by their start as well."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        path = write_down(tmp_path, "other", other.pid)
        found = json.loads(path.read_text())
        path.write_text(json.dumps(found | {"started": found["started"] - 100}))
        sweep(tmp_path)
        assert other.poll() is None and not path.exists()
        write_down(tmp_path, "other", other.pid)
        os.kill(other.pid, signal.SIGSTOP)
        sweep(tmp_path)
        assert not psutil.pid_exists(other.pid)


def test_a_note_that_was_cut_off_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "a.pid").write_text('{"pid": 1')
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_slope_and_exponent_of_known_growth() -> None:
    def block(point: str, seconds: float, void: bool = False) -> dict[str, object]:
        times = {"duration": seconds, "mean_ttft_ms": 1000 * seconds}
        return {"arm": "a", "point": point, "completed": 1, "void": ["x"] * void, **times}

    line = [block(f"c{n}", 0.5 + 0.1 * n) for n in (8, 16, 32)] + [block("c64", 99.0, void=True)]
    square = [block(f"p{n}", 1e-6 * n * n) for n in (256, 512, 1024)]
    found = growth([*line, *square, {**line[0], "arm": "a again"}])
    assert set(found["requests"]) == {"a"}
    assert found["requests"]["a"]["slope"]["value"] == pytest.approx(0.1)
    assert found["prompt"]["a"]["exponent"]["value"] == pytest.approx(2.0)
    assert found["requests"]["a"]["points"] == [
        [8, pytest.approx(1.3)],
        [16, pytest.approx(2.1)],
        [32, pytest.approx(3.7)],
    ]


@pytest.mark.slow
def test_time_is_left_for_nothing_once_all_is_done(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    began = time.monotonic()
    with started(folder) as run:
        _, shown = run.communicate(timeout=60)
    assert run.returncode == 0 and shown.count("done before") == shown.count("stage ") == 6
    assert "starting" not in shown and time.monotonic() - began < 30
