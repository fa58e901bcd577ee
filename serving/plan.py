"""What fits: from a checkpoint and hardware to a Plan, or to a refusal that says what would fit. Pure arithmetic."""

from serving.checkpoint import Checkpoint
from serving.config import ServingConfig
from serving.errors import ConfigError, near
from serving.hardware import Hardware
from serving.layout import Inputs, Plan, lay_out, usable
from serving.parallel import (
    legal_pipeline_parallel_sizes,
    legal_tensor_parallel_sizes,
    tensor_parallel_objection,
)
from serving.remedies import does_not_fit
from serving.sizes import DTYPE_BYTES
from serving.units import format_bytes

__all__ = ["Plan", "make_plan", "plan_for"]

# The fewest GPUs are chosen on which so many requests of full length fit at once.
COMFORTABLE = 8
ANY_NUMBER = 128


def make_plan(
    checkpoint: Checkpoint,
    hardware: Hardware,
    *,
    max_model_len: int | None = None,
    gpu_memory_utilization: float | None = None,
    tensor_parallel_size: int | None = None,
    pipeline_parallel_size: int | None = None,
    max_num_seqs: int | None = None,
    dtype: str | None = None,
    kv_cache_memory: int | None = None,
) -> Plan:
    """The plan with the fewest devices that holds COMFORTABLE requests of full length, else the one that holds most.

    What is None is chosen here. Raises ConfigError for a value that the checkpoint or the hardware rules out,
    DoesNotFitError where not even one request of full length fits.
    """
    inputs = Inputs(
        checkpoint=checkpoint,
        hardware=hardware,
        dtype=served_dtype(checkpoint, hardware, dtype),
        max_model_len=served_context(checkpoint, max_model_len),
        max_num_seqs=max_num_seqs,
        gpu_memory_utilization=gpu_memory_utilization,
        kv_cache_memory=kv_cache_memory,
    )
    check_sizes(inputs, tensor_parallel_size, pipeline_parallel_size)
    tensors = tensor_sizes(inputs, tensor_parallel_size)
    stages = (
        [pipeline_parallel_size]
        if pipeline_parallel_size
        else legal_pipeline_parallel_sizes(checkpoint, hardware.device)
    )
    plans: list[Plan] = []
    # Stages wait for each other, so more of them are the last resort: for matrices that cannot be cut, or not so often.
    for pipeline in stages:
        plans += [lay_out(inputs, tensor, pipeline) for tensor in tensors if tensor * pipeline <= devices(hardware)]
        if any(plan.fits for plan in plans):
            break
    plan = next((plan for plan in plans if plan.full_length_requests >= COMFORTABLE), None)
    plan = plan or max(plans, key=lambda plan: (plan.full_length_requests, plan.budget_bytes - plan.fixed_bytes))
    if not plan.fits:
        raise does_not_fit(inputs, plan)
    check_utilization(inputs, plan)
    return plan


def tensor_sizes(inputs: Inputs, wanted: int | None) -> tuple[int, ...]:
    """The tensor sizes to try. Workers on one CPU share its memory and cores: there only a user makes them many."""
    if wanted:
        return (wanted,)
    return legal_tensor_parallel_sizes(inputs.checkpoint) if inputs.hardware.device == "cuda" else (1,)


def plan_for(config: ServingConfig, checkpoint: Checkpoint, hardware: Hardware) -> Plan:
    """`make_plan` with what a configuration asks for; in it 0 and "auto" leave the choice to the plan."""
    return make_plan(
        checkpoint,
        hardware,
        max_model_len=config.max_model_len or None,
        gpu_memory_utilization=config.gpu_memory_utilization or None,
        tensor_parallel_size=config.tensor_parallel_size or None,
        pipeline_parallel_size=config.pipeline_parallel_size or None,
        max_num_seqs=config.max_num_seqs or None,
        dtype=None if config.dtype == "auto" else config.dtype,
        kv_cache_memory=config.kv_cache_memory_bytes or None,
    )


def served_context(checkpoint: Checkpoint, wanted: int | None) -> int:
    """Tokens of prompt and answer together. Raises ConfigError beyond what the checkpoint was trained for."""
    if wanted is not None and not 1 <= wanted <= checkpoint.context:
        raise ConfigError(
            f"max_model_len={wanted}: {checkpoint.name} takes 1 to {checkpoint.context} tokens, what it was trained for"
        )
    return wanted or checkpoint.context


def served_dtype(checkpoint: Checkpoint, hardware: Hardware, wanted: str | None) -> str:
    """The checkpoint's own number format; but float16 for float32 on a GPU or in GPTQ, and where a card lacks bfloat16.

    Raises ConfigError for a format that is unknown or that the hardware lacks.
    """
    without_bf16 = [gpu.name for gpu in hardware.gpus if not gpu.bf16]
    if wanted is None:
        halve = checkpoint.dtype == "float32" and (hardware.device == "cuda" or checkpoint.quantization)
        return "float16" if halve or (checkpoint.dtype == "bfloat16" and without_bf16) else checkpoint.dtype
    if wanted not in DTYPE_BYTES:
        raise ConfigError(f'dtype: "{wanted}" is not one of {", ".join(DTYPE_BYTES)}{near(wanted, list(DTYPE_BYTES))}')
    if wanted == "bfloat16" and without_bf16:
        raise ConfigError(f"dtype: {without_bf16[0]} has no bfloat16; use float16")
    if wanted == "float32" and checkpoint.quantization:
        # vLLM 0.29: GPTQ refuses it, the bitsandbytes plugin fails at 4 bits and computes in bfloat16 at 8.
        method = checkpoint.quantization.method
        raise ConfigError(f"dtype: {method} checkpoints are served in float16 or bfloat16, not in float32")
    return wanted


def check_sizes(inputs: Inputs, tensor: int | None, pipeline: int | None) -> None:
    """Raises ConfigError for parallel sizes that the checkpoint or the hardware rules out, naming the legal ones."""
    device, checkpoint = inputs.hardware.device, inputs.checkpoint
    if tensor is not None and tensor not in legal_tensor_parallel_sizes(checkpoint):
        legal = ", ".join(map(str, legal_tensor_parallel_sizes(checkpoint)))
        reason = tensor_parallel_objection(checkpoint, tensor) if tensor > 0 else "it must be positive"
        raise ConfigError(f"tensor_parallel_size={tensor}: {reason}; {checkpoint.name} takes {legal}")
    stages = legal_pipeline_parallel_sizes(checkpoint, device)
    if pipeline is not None and pipeline not in stages:
        why = (
            "vLLM's CPU engine dies at the first request with more than one stage"
            if device == "cpu"
            else "a stage needs a layer"
        )
        raise ConfigError(f"pipeline_parallel_size={pipeline}: {why}; {checkpoint.name} takes 1 to {stages[-1]} here")
    needed, present = (tensor or 1) * (pipeline or 1), devices(inputs.hardware)
    if needed > present:
        things = "GPUs" if device == "cuda" else "cores"
        raise ConfigError(f"tensor_parallel_size x pipeline_parallel_size = {needed}, but there are {present} {things}")


def check_utilization(inputs: Inputs, plan: Plan) -> None:
    """Raises ConfigError where a user asks for more of a GPU than is free: vLLM would refuse it, but only later."""
    for gpu in inputs.hardware.gpus[: plan.devices]:
        if gpu.memory_available_bytes < plan.gpu_memory_utilization * usable(gpu):
            free, whole = format_bytes(gpu.memory_available_bytes), format_bytes(gpu.memory_bytes)
            share = plan.gpu_memory_utilization
            raise ConfigError(f"gpu_memory_utilization={share}: of {gpu.name}'s {whole} only {free} are free")


def devices(hardware: Hardware) -> int:
    """How many devices there are to spread over: GPUs, or cores (of a described CPU: as many as are asked for)."""
    return len(hardware.gpus) or len(hardware.cpus) or ANY_NUMBER
