"""The plan's numbers against what vLLM itself allocates."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.checkpoint import read_checkpoint
from serving.demo import demo_checkpoint
from serving.hardware import declared
from serving.plan import make_plan
from serving.sizes import weight_bytes
from serving.units import GIB
from tests.server_process import ServerProcess

pytestmark = pytest.mark.engine

# Builds the model as vLLM's loader does and prints the bytes of its parameters. Loaded weights would tell less: on a
# CPU the matrices are repacked into memory that belongs to no parameter.
BUILD = """
import sys
import torch
from vllm.config import set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.plugins import load_general_plugins
from vllm.utils.torch_utils import set_default_torch_dtype

load_general_plugins()
config = EngineArgs(model=sys.argv[1], dtype=sys.argv[2], enforce_eager=True).create_engine_config()
with set_current_vllm_config(config), set_default_torch_dtype(config.model_config.dtype):
    init_distributed_environment(1, 0, "file://" + sys.argv[3], 0, "gloo")
    initialize_model_parallel(1)
    model = initialize_model(config)
print("bytes", sum(parameter.nbytes for parameter in model.parameters()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bf16", "gptq-4bit", "bnb-8bit"])
def test_weights_are_those_that_vllm_allocates(form: str, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(demo_checkpoint(form))
    command = [sys.executable, "-c", BUILD, str(checkpoint.path), checkpoint.dtype, str(tmp_path / "rendezvous")]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"^bytes (\d+)$", built.stdout, re.MULTILINE)
    assert found, built.stderr
    assert weight_bytes(checkpoint, checkpoint.dtype) == pytest.approx(int(found[1]), rel=0.02)


def test_kv_cache_tokens_are_those_that_vllm_reports(demo_server: ServerProcess, demo: Path) -> None:
    log = demo_server.log.read_text()
    given = re.search(r"'kv_cache_memory_bytes': (\d+)", log)
    reported = re.search(r"GPU KV cache size: ([\d,]+) tokens", log)
    assert given and reported, log
    plan = make_plan(read_checkpoint(demo), declared(cpu_memory=64 * GIB), kv_cache_memory=int(given[1]))
    assert plan.kv_cache_tokens == pytest.approx(int(reported[1].replace(",", "")), rel=0.02)
