"""Ray Serve LLM as a baseline: what is set and what is not, and that nothing of it stays behind."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.block import run_block
from benchmarks.metrics import Slo
from benchmarks.needs import lacking
from benchmarks.processes import running
from benchmarks.ray_server import llm_config
from benchmarks.systems import KV_FLAG, Recipe, command_of, named
from benchmarks.workload import Question
from tests.benchmarks.conftest import TOLERANT

RECIPE = Recipe("/m", ("--model", "/m", "--dtype", "bfloat16", KV_FLAG, "100"), {"VLLM_CPU_OMP_THREADS_BIND": "0,1"})
LOADING = {"model_id": "benchmark", "model_source": "/m"}


def test_only_what_it_cannot_run_without_is_set() -> None:
    assert llm_config("/m", on_cpu=False, kv_cache_bytes=None) == {"model_loading_config": LOADING}
    assert llm_config("/m", on_cpu=True, kv_cache_bytes=100) == {
        "model_loading_config": LOADING,
        "accelerator_config": {"kind": "cpu"},
        "engine_kwargs": {"kv_cache_memory_bytes": 100},
    }


def test_the_command_names_the_checkpoint_and_the_memory() -> None:
    words = " ".join(command_of("ray", RECIPE, None, 9))
    assert words.endswith(f"-m benchmarks.ray_server --model /m --port 9 --cpu {KV_FLAG} 100")
    on_gpu = Recipe("/m", ("--model", "/m"), {})
    assert " ".join(command_of("ray", on_gpu, None, 9)).endswith("benchmarks.ray_server --model /m --port 9")


def test_this_project_s_plugins_stay_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.systems.lacking", lambda name, path: "")
    assert "xuanyuan" not in named("ray", RECIPE, None).env["VLLM_PLUGINS"]


# A child starts a grandchild in a session of its own and dies before it.
ORPHANS = """
import subprocess, sys, time
from benchmarks.ray_server import no_orphans
CHILD = '''
import subprocess, sys
print(subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL).pid)
'''
with no_orphans():
    print(subprocess.run([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True).stdout, flush=True)
"""


def test_orphans_do_not_outlive_it() -> None:
    done = subprocess.run([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert not psutil.pid_exists(int(done.stdout))


@pytest.mark.ray
@pytest.mark.engine
@pytest.mark.timeout(600)
def test_ray_serves_the_demo_and_leaves_nothing(demo: Path, tmp_path: Path) -> None:
    if reason := lacking("ray"):
        pytest.skip(reason)
    words = ("--model", str(demo), "--dtype", "bfloat16", KV_FLAG, str(512 * 1024**2))
    system = named("ray", Recipe(str(demo), words, {"VLLM_CPU_OMP_THREADS_BIND": "0"}), None)
    asked = [Question([1, 300 + number, 400, 401], 9) for number in range(3)]
    asked += [Question([{"role": "user", "content": "What is a share?"}], 12)]
    calls = [question.call("benchmark", ignore_eos=True) for question in asked]
    with running(system, tmp_path) as found:
        tree = found.tree()
        block = run_block(found.server, calls, concurrency=4, slo=Slo(), limits=TOLERANT)
    assert block.void == [] and [item.output_tokens for item in block.outcomes] == [9, 9, 9, 12]
    assert len(tree) > 5 and not [process for process in tree if process.is_running()]
