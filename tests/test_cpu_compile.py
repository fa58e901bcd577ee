"""The model is compiled once for a processor; later starts load what was compiled."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.server_process import ServerProcess

LOADED = "Directly load AOT compilation"
OPTIONS = """
import sys
from vllm.engine.arg_utils import EngineArgs
theirs = EngineArgs(model=sys.argv[1]).create_engine_config().compilation_config
from serving.cpu_compile import VLLM_OPTIONS
from serving.engine import CPU_COMPILATION
ours = EngineArgs(model=sys.argv[1], compilation_config=CPU_COMPILATION).create_engine_config().compilation_config
assert theirs.inductor_compile_config == VLLM_OPTIONS, theirs.inductor_compile_config
for name in ("mode", "custom_ops", "ir_enable_torch_wrap", "cudagraph_mode", "splitting_ops"):
    assert getattr(theirs, name) == getattr(ours, name), (name, getattr(theirs, name), getattr(ours, name))
assert callable(ours.init_backend(None))
"""


def test_only_the_backend_and_its_wrapper_differ_from_what_vllm_does_by_itself(demo: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OPTIONS, str(demo)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_code_for_another_processor_is_not_loaded() -> None:
    from serving.cpu_compile import CompiledCode

    with pytest.raises(ValueError, match="another processor"):
        CompiledCode.deserialize_compile_artifacts(pickle.dumps(("torch 0 of a machine without AVX", b"")))


@pytest.mark.engine
def test_a_sampled_answer_on_a_box_without_a_compiler(family_checkpoint: Path, tmp_path: Path) -> None:
    """vLLM compiles its sampler at the first request that is not greedy; this engine must live without."""
    args = [str(family_checkpoint), "--template", "6b", "--dtype", "float32"]
    nowhere = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    server = ServerProcess(args, tmp_path, {**os.environ, **nowhere})
    try:
        url = server.wait_ready().url
        for more in ({}, {"top_p": 0.9}, {"top_k": 5}):
            body = {"model": family_checkpoint.name, "prompt": "a b c", "max_tokens": 4, "temperature": 1.0, **more}
            answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
            assert answer.status_code == 200, answer.text
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.engine
def test_the_second_start_loads_what_the_first_compiled(demo_server: ServerProcess, tmp_path: Path) -> None:
    second = ServerProcess(["--no-enforce-eager"], tmp_path).wait_ready()
    second.stop()
    assert LOADED in second.log.read_text()
