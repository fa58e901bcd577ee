"""From configuration, checkpoint and plan to vLLM's arguments and environment: one pure table of each."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from chat_template.settings import ChatSettings
from serving.catalog import SAMPLING_KEYS
from serving.checkpoint import Checkpoint
from serving.config import ServingConfig, to_environ
from serving.guard.served import Served
from serving.layout import LONG_PREFILL_TOKENS
from serving.plan import Plan

GUARD = "serving.guard.Guard"
# vLLM's own compilation for a CPU (vllm/platforms/cpu.py) but for the backend, whose code the next start can load.
CPU_COMPILATION = {
    "mode": 2,  # DYNAMO_TRACE_ONCE
    "backend": "serving.cpu_compile.inductor",
    "custom_ops": ["none"],
    "ir_enable_torch_wrap": False,
    "cudagraph_mode": "NONE",
}


@dataclass(frozen=True)
class EngineSpec:
    """What the engine is started with. `env` is what is set on top of the launcher's own environment."""

    model: Path
    args: tuple[str, ...]
    env: Mapping[str, str]

    def to_json(self) -> str:
        """`{"model": folder, "args": [...], "env": {...}}`."""
        return json.dumps({"model": str(self.model), "args": list(self.args), "env": dict(self.env)})


def engine_spec(
    config: ServingConfig,
    checkpoint: Checkpoint,
    plan: Plan,
    *,
    preloads: Iterable[Path] = (),
    cpus: tuple[int, ...] = (),
    compiles: bool = False,
    passed: tuple[str, ...] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> EngineSpec:
    """The arguments and environment of vLLM's server.

    `preloads` are shared libraries to load first (CPU), `cpus` the cores to bind, `compiles` whether this box can
    compile for its CPU, `passed` what the user wrote after `--`: it comes last and so wins over ours. `environ` is the
    launcher's own: what tunes the CPU engine in it stays.
    """
    rows = arguments(config, checkpoint, plan, compiles)
    args = [word for flag, value in rows for word in words(flag, value)]
    env = environment(config, plan, tuple(preloads), cpus, environ, compiles)
    env |= served(config, checkpoint, plan).to_environ()
    return EngineSpec(checkpoint.path, (*args, *passed), env)


def arguments(
    config: ServingConfig, checkpoint: Checkpoint, plan: Plan, compiles: bool = False
) -> list[tuple[str, object]]:
    """Flag and value, row by row. None leaves a row out, True is a bare flag."""
    cuda = plan.device == "cuda"
    eager = config.enforce_eager or plan.enforce_eager or not (cuda or compiles)
    bitsandbytes = plan.quantization == "bitsandbytes"
    return [
        ("--model", checkpoint.path),
        ("--served-model-name", config.served_model_name or checkpoint.name),
        ("--host", config.host),
        ("--port", config.port),
        ("--dtype", plan.dtype),
        # Weights that are pickles can run code. bitsandbytes has a loader of its own, which reads safetensors first.
        ("--load-format", None if bitsandbytes or config.allow_pickle else "safetensors"),
        # What older checkpoints keep beside config.json, where vLLM looks for it.
        ("--hf-overrides", dict(checkpoint.hf_overrides) or None),
        ("--max-model-len", plan.max_model_len),
        ("--max-num-seqs", plan.max_num_seqs),
        ("--max-num-batched-tokens", plan.max_num_batched_tokens),
        ("--long-prefill-token-threshold", None if cuda else min(LONG_PREFILL_TOKENS, plan.max_model_len)),
        ("--tensor-parallel-size", plan.tensor_parallel_size),
        ("--pipeline-parallel-size", plan.pipeline_parallel_size),
        ("--gpu-memory-utilization", plan.gpu_memory_utilization if cuda else None),
        ("--block-size", None if cuda else plan.block_size),
        ("--kv-cache-memory-bytes", config.kv_cache_memory_bytes or (None if cuda else plan.kv_cache_bytes)),
        ("--enforce-eager", eager or None),
        ("--compilation-config", None if cuda or eager else CPU_COMPILATION),
        ("--enable-prefix-caching", True),
        ("--enable-chunked-prefill", True),
        # The family's sampling is what a request gets that asks for none.
        ("--generation-config", "auto"),
        ("--override-generation-config", sampling(config, checkpoint)),
        *renderer(config, checkpoint),
        # Added last, so outermost.
        ("--middleware", GUARD),
        # The guard counts tokens from the usage at a stream's end.
        ("--enable-force-include-usage", True),
        # Version and parallelism are nobody's business.
        ("--fingerprint-mode", "hash"),
        ("--disable-fastapi-docs", True),
        # vLLM's default lets scripts of any web page ask a server on this machine. The guard has allowed_origins.
        ("--allowed-origins", "[]"),
        ("--disable-uvicorn-access-log", True),
        ("--uvicorn-log-level", "warning"),
    ]


def sampling(config: ServingConfig, checkpoint: Checkpoint) -> dict[str, float] | None:
    """The catalog's sampling as vLLM takes it. The answer's length is the client's, up to `max_tokens`."""
    defaults = dict(checkpoint.entry.sampling) if checkpoint.entry else {}
    defaults.pop("max_tokens", None)
    if config.max_tokens:
        # The guard refuses a request that asks for more; of one that names no length vLLM makes this.
        defaults["max_new_tokens"] = config.max_tokens
    return defaults or None


def served(config: ServingConfig, checkpoint: Checkpoint, plan: Plan) -> Served:
    """What the page says of the model. vLLM takes its defaults from generation_config.json, and over it ours."""
    own = {name: value for name, value in checkpoint.generation_config.items() if name in SAMPLING_KEYS}
    family = dict(checkpoint.entry.sampling) if checkpoint.entry else {}
    limit = {"max_tokens": config.max_tokens} if config.max_tokens else {}
    return Served(
        precision=checkpoint.quantization.method if checkpoint.quantization else plan.dtype,
        chat=checkpoint.template != "none",
        sampling={**own, **family, **limit},
        control_tokens=checkpoint.control_tokens,
    )


def renderer(config: ServingConfig, checkpoint: Checkpoint) -> list[tuple[str, object]]:
    """Our renderer for the family's prompts and completion-only checkpoints; vLLM's for a checkpoint's own template."""
    if checkpoint.template == "own":
        return []
    settings = ChatSettings.from_dict(
        {
            "template": checkpoint.template,
            "system_role": config.system_role,
            "turn_forgery": config.turn_forgery,
            "truncate_history": config.truncate_history,
            "chat_checkpoint": checkpoint.entry.chat_checkpoint if checkpoint.entry else None,
        }
    )
    return [*settings.engine_flags()]


def words(flag: str, value: object) -> list[str]:
    """One row of the table as words of a command line; a dictionary becomes JSON."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [flag, json.dumps(value)]
    return [flag] if value is True else [flag, str(value)]


def environment(
    config: ServingConfig,
    plan: Plan,
    preloads: tuple[Path, ...],
    cpus: tuple[int, ...],
    environ: Mapping[str, str],
    compiles: bool,
) -> dict[str, str]:
    """What is set for the engine and for the guard in its process."""
    return {
        # Nothing is reported to anybody.
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "DO_NOT_TRACK": "1",
        # Hardening: no development routes, no adapters loaded at run time, no pickles between processes.
        "VLLM_SERVER_DEV_MODE": "0",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
        "VLLM_MAX_N_SEQUENCES": str(config.max_n),
        # Several server processes wait for the engine no longer than this.
        "VLLM_ENGINE_READY_TIMEOUT_S": str(math.ceil(config.start_timeout)),
        # The weights are a local folder by now.
        "HF_HUB_OFFLINE": "1",
        **to_environ(config),
        "XUANYUAN_MAX_NUM_SEQS": str(plan.max_num_seqs),
        **(cpu_environment(plan, preloads, cpus, environ, compiles) if plan.device == "cpu" else {}),
    }


def cpu_environment(
    plan: Plan, preloads: tuple[Path, ...], cpus: tuple[int, ...], environ: Mapping[str, str], compiles: bool
) -> dict[str, str]:
    """All cores bound, a short OpenMP block time, a faster allocator and Intel's OpenMP.

    Measured against vLLM's defaults, which leave one core to its other processes: README, "How fast".
    """
    bind = thread_binding(cpus, plan.tensor_parallel_size * plan.pipeline_parallel_size)
    preload = ":".join(filter(None, (*map(str, preloads), environ.get("LD_PRELOAD"))))
    return {
        "VLLM_CPU_OMP_THREADS_BIND": environ.get("VLLM_CPU_OMP_THREADS_BIND", bind),
        "KMP_BLOCKTIME": environ.get("KMP_BLOCKTIME", "1"),
        **({"LD_PRELOAD": preload} if preload else {}),
        # With a compiler: what `cpu_compile` needs. Without one: vLLM's sampler is compiled at the first request
        # whatever --enforce-eager says, and that would end the engine.
        **({"VLLM_USE_LAYERNAME": "0"} if compiles else {"TORCHDYNAMO_DISABLE": "1"}),
    }


def thread_binding(cpus: tuple[int, ...], ranks: int) -> str:
    """VLLM_CPU_OMP_THREADS_BIND for workers that share the cores: "0,2|1,3" for two; "auto" where there are fewer."""
    shares = [cpus[rank::ranks] for rank in range(ranks)]
    return "|".join(",".join(map(str, share)) for share in shares) if all(shares) else "auto"
