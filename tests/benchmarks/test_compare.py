"""Comparisons of servers whose speeds are known, over real sockets; their life cycles; and what is written of them."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import processes
from benchmarks.__main__ import main
from benchmarks.client import Server
from benchmarks.console import BenchmarkError
from benchmarks.fake_server import Behaviour, running
from benchmarks.processes import Servers
from benchmarks.systems import KV_FLAG, ROOT, Chosen, Recipe, System, command_of, free_port, named
from tests.benchmarks.conftest import TOLERANT, exit_code


@pytest.fixture(autouse=True)
def never_void(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timing on a busy machine is not what these tests are about."""
    monkeypatch.setattr("benchmarks.options.limits", lambda args: TOLERANT)


@pytest.fixture(scope="module")
def two() -> Iterator[str]:
    """Flags for a server, and one whose tokens take twice as long."""
    with running(Behaviour(8, 0.02, 0.01)) as fast, running(Behaviour(8, 0.02, 0.02)) as slow:
        yield f"--url fast={fast} --url slow={slow}"


def test_a_known_ratio_is_found_and_a_run_goes_on(two: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"compare {two} --concurrency 2 --output-len 9 --out {tmp_path} --json --rounds"
    assert main([*words.split(), "2"]) == 0
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()}
    assert len(first) == 6
    capsys.readouterr()
    assert main([*words.split(), "4"]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()}
    assert len(after) == 12 and first.items() <= after.items()
    (line,) = capsys.readouterr().out.splitlines()
    ratios = {item["metric"]: item for item in json.loads(line)["ratios"]}
    assert ratios["mean_tpot_ms"]["ratio"]["value"] == pytest.approx(2, rel=0.15)
    # 20 ms and eight tokens of 10 ms are 100 ms; with 20 ms, 180.
    assert ratios["output_throughput"]["ratio"]["value"] == pytest.approx(1.8, rel=0.15)
    assert ratios["mean_tpot_ms"]["noise"]["value"] == pytest.approx(1, rel=0.15)
    assert main([*words.split(), "4", "--seed", "7"]) == 3
    assert "other settings (seed: 0 before, now 7)" in capsys.readouterr().err


def test_all_get_the_same_prompts_in_a_round_but_the_arm_that_runs_again(two: str, tmp_path: Path) -> None:
    words = f"compare {two} --concurrency 1 --rate 20 --seconds 0.2 --output-len 2 --rounds 2"
    assert main([*words.split(), "--out", str(tmp_path)]) == 0
    blocks = [json.loads(path.read_text()) for path in (tmp_path / "blocks").iterdir()]
    seeds = {(block["round"], block["point"], block["arm"]): block["seed"] for block in blocks}
    for number in (0, 1):
        for point in ("c1", "r20"):
            assert seeds[number, point, "fast"] == seeds[number, point, "slow"] != seeds[number, point, "fast again"]
    assert len({seeds[number, point, "fast"] for number in (0, 1) for point in ("c1", "r20")}) == 4


def test_the_report_needs_nothing_but_itself(two: str, tmp_path: Path) -> None:
    words = f"compare {two} --concurrency 1 2 --output-len 3 --rounds 1 --out {tmp_path}"
    assert main(words.split()) == 0
    probe = {"rate": 2.0, "attainment": 0.97}
    found = {"capacity": 2.0, "users": 44, "users_interval": [44, None], "attain": 0.95, "think_time": 20}
    (tmp_path / "capacity-fast.json").write_text(json.dumps({**found, "probes": [probe]}))
    assert main(["report", str(tmp_path)]) == 0
    html = (tmp_path / "report.html").read_text()
    assert "fast: 44 users within the SLO (the most that was tried)" in html
    # SLO, ratios, pace, where the time goes, two distributions at each of two loads, each system over time.
    assert html.count("<svg") == 10 and "Not measured: no GPU" in html and "compare --url fast=" in html
    outside = re.findall(r"""(?:src|href)=|url\(|@import|<script|<link""", html)
    assert outside == []
    result = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert {item["verdict"] for item in result["ratios"]} == {"unknown"}
    assert result["gpu"] == {"measured": False, "datasheet_gb_s": None, "command": result["gpu"]["command"]}
    assert "ttfts" not in result["blocks"][0] and len(result["blocks"]) == 6


def fake(name: str, *flags: str) -> System:
    """A fake server as a system that is started."""
    port = free_port()
    command = (sys.executable, "-m", "benchmarks.fake_server", "--port", str(port), *flags)
    return System(name, Server(f"http://127.0.0.1:{port}"), command)


def states(servers: Servers) -> dict[str, str]:
    """By name: what the system says of each server's process, once signals have had their effect."""
    time.sleep(0.1)
    found = {}
    for name, server in servers.live.items():
        assert server.process is not None
        found[name] = server.process.status()
    return found


def test_idle_servers_are_stopped_and_all_end(tmp_path: Path) -> None:
    with Servers([fake("a"), fake("b")], tmp_path, resident=True) as servers:
        assert set(states(servers).values()) == {psutil.STATUS_STOPPED}
        with servers.turn("a"):
            assert states(servers)["b"] == psutil.STATUS_STOPPED != states(servers)["a"]
        assert set(states(servers).values()) == {psutil.STATUS_STOPPED}
        children = [server.process for server in servers.live.values()]
    assert all(process and not process.is_running() for process in children)
    assert servers.startups["a"][0] > 0 and servers.memory["a"] > 1_000_000


def test_where_memory_does_not_hold_all_each_is_started_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "HEADROOM", 1e9)
    with Servers([fake("a"), fake("b")], tmp_path, resident=True) as servers:
        for name in ("a", "b", "a"):
            with servers.turn(name) as server:
                assert server.process is not None and server.process.is_running()
            assert not server.process.is_running()
    assert {name: len(times) for name, times in servers.startups.items()} == {"a": 3, "b": 1}
    assert "memory does not hold all servers" in capsys.readouterr().err


def test_a_server_that_does_not_start_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"a ended with exit code 2:\n(.|\n)*unrecognized arguments: --nonsense"):
        Servers([fake("a", "--nonsense")], tmp_path, resident=True).__enter__()


def test_what_a_baseline_needs_and_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    expected = "transformers and torch are not installed; make install brings it"
    assert named("hf", RECIPE, None).absent == expected


RECIPE = Recipe("/m", ("--model", "/m", "--dtype", "bfloat16", KV_FLAG, "100"), {"VLLM_CPU_OMP_THREADS_BIND": "0,1"})


def test_the_plain_server_keeps_every_default_but_the_memory() -> None:
    words = " ".join(command_of("plain", RECIPE, None, 9))
    flags = words.partition("api_server ")[2]
    assert flags == f"--model /m --host 127.0.0.1 --port 9 --served-model-name benchmark {KV_FLAG} 100"
    on_gpu = replace(RECIPE, args=("--model", "/m"), env={})
    assert KV_FLAG not in command_of("plain", on_gpu, None, 9) and not on_gpu.on_cpu and RECIPE.on_cpu


def test_the_launcher_is_started_as_a_user_does() -> None:
    assert command_of("launcher", RECIPE, "org/m", 9)[1:] == (
        "serve", "org/m", "--host", "127.0.0.1", "--port", "9", "--served-model-name", "benchmark"
    )  # fmt: skip
    assert "org/m" not in command_of("launcher", RECIPE, None, 9)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("compare", 3, "name a system (launcher, plain, hf, hf-batch, ray, llama.cpp) or give --url NAME=URL"),
        ("compare vllm", 2, "no system 'vllm'; there are launcher"),
        ("compare --url http://x", 2, "expected NAME=URL"),
        ("report /nowhere", 3, "/nowhere holds no blocks"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(
    words: str, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = exit_code(words)
    shown = capsys.readouterr().err
    assert found == code and text in shown and shown.count("\n") == 1


def test_a_block_beside_another_busy_program_is_void(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only for a server that is started here: of another one it is not known what it takes itself."""
    monkeypatch.setattr("benchmarks.options.limits", lambda args: replace(TOLERANT, others=0.2))
    monkeypatch.setattr("benchmarks.commands.compare.choose", lambda *asked: Chosen((fake("a"),), None))
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            words = f"compare --concurrency 2 --output-len 60 --rounds 1 --out {tmp_path}"
            assert main(words.split()) == 0
        finally:
            busy.kill()
    void = json.loads((tmp_path / "report.json").read_text())["void"]
    assert {item["arm"] for item in void} == {"a", "a again"}
    assert all("other programs used" in item["reasons"][0] for item in void)


CUT_OFF = """
import sys
from benchmarks.__main__ import entry
from benchmarks.commands import compare
from benchmarks.systems import Chosen
from tests.benchmarks.test_compare import fake

compare.choose = lambda *asked: Chosen((fake("a"), fake("b")), None)
sys.argv[1:] = ["compare", "--concurrency", "1", "--rounds", "50", "--out", sys.argv[1]]
entry()
"""


def test_a_run_that_is_ended_leaves_no_server_behind(tmp_path: Path) -> None:
    """Stopped servers do not hear of an end by themselves."""
    with subprocess.Popen([sys.executable, "-c", CUT_OFF, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        while b"at a time" not in run.stderr.readline():
            assert run.poll() is None
        servers = psutil.Process(run.pid).children()
        run.terminate()
        run.stderr.read()
        assert run.wait(20) == 130
    assert len(servers) == 2 and not any(server.is_running() for server in servers)
