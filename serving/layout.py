"""A checkpoint laid out on given devices: what each part takes, and how many requests the rest holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from serving.checkpoint import Checkpoint
from serving.gpus import Gpu
from serving.hardware import Hardware
from serving.parallel import legal_pipeline_parallel_sizes, legal_tensor_parallel_sizes
from serving.sizes import (
    BLOCK_SIZE,
    activation_bytes,
    cpu_process_bytes,
    graph_bytes,
    kv_bytes_per_token,
    weight_bytes,
)
from serving.units import GIB

# Of a GPU: what vLLM may take. Its own default is 0.92; the CUDA context (0.5 GiB and more) and NCCL's buffers lie
# outside it, and on a 16 GiB card 8 % is too little for them. Of a CPU's free memory: the rest is for the user's other
# programs.
UTILIZATION = 0.9
# `nvidia-smi` counts memory that the driver keeps. In vLLM's public logs an H100 (79.65 GiB) has 79.22, an RTX 5090
# (31.84) 31.37, a 24 GiB card 23.55.
GPU_DRIVER = GIB // 2
# A process's CUDA context, taken before vLLM looks how much is free.
GPU_CONTEXT = GIB // 2
# max_num_seqs: the most of these of which the KV cache holds that many short requests. More would be admitted and then
# preempted, which computes them twice, and each costs memory for logits and CUDA graphs. vLLM's defaults are 128 on a
# CPU, 256 on a GPU and 1,024 on one of 70 GiB. CPU: the demo on two cores gave 416, 610, 780 tokens/s at 32, 64, 128,
# where a token took 107 ms (median), still as fast as one reads. GPU: 1,024 short requests to XuanYuan-6B would need
# 120 GiB of KV cache.
REQUESTS = {"cpu": (128, 64, 32, 16, 8, 4), "cuda": (256, 128, 64, 32, 16, 8, 4)}
SHORT_REQUEST = 256
# On a CPU the KV cache is real memory from the start, so it is no larger than what that many long requests fill.
LONG_REQUEST = 1024
# Tokens computed in one step: vLLM's default, and its 8,192 for large GPUs from Hopper on. It keeps 2,048 on the A100,
# where more costs throughput (its pull request 17885), but knows that card by name only; here every card before Hopper
# keeps it, so also the A800.
STEP_TOKENS = 2048
STEP_TOKENS_HOPPER = 8192
# And at most so many of one prompt in a step on a CPU: others' answers stand still meanwhile. The demo on two cores,
# four streams beside one prompt of 1,600 tokens after another: they stall for 380 ms, without it for 780. Four such
# prompts at a time: steps of 2,048 give 1,870 tokens/s, a pause of 53 ms between tokens (median) and 1,300 at most;
# steps of 512 gave 1,540 tokens/s, 280 and 420 ms.
LONG_PREFILL_TOKENS = 512
LARGE_GPU = 70 * GIB


@dataclass(frozen=True)
class Plan:
    """What is to be started, and why it fits. Bytes are those on one device, the fullest where they differ.

    A device is a GPU, or on a CPU a worker process. device_memory_bytes is what it has (CPU: what is
    free), budget_bytes the part that may be used: for weights, activations, CUDA graphs, processes and KV cache.
    """

    device: str
    dtype: str
    quantization: str | None
    tensor_parallel_size: int
    pipeline_parallel_size: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float
    device_memory_bytes: int
    budget_bytes: int
    weight_bytes: int
    activation_bytes: int
    graph_bytes: int
    process_bytes: int
    kv_cache_bytes: int
    kv_bytes_per_token: int
    kv_cache_tokens: int
    full_length_requests: int
    block_size: int
    enforce_eager: bool
    legal_tensor_parallel_sizes: tuple[int, ...]
    legal_pipeline_parallel_sizes: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the KV cache has room, and holds a request of full length: vLLM refuses to start otherwise."""
        return self.full_length_requests >= 1 and self.fixed_bytes + self.kv_cache_bytes <= self.budget_bytes

    @property
    def fixed_bytes(self) -> int:
        """What is taken before the KV cache."""
        return self.weight_bytes + self.activation_bytes + self.graph_bytes + self.process_bytes

    @property
    def devices(self) -> int:
        """GPUs or workers."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


@dataclass(frozen=True)
class Inputs:
    """What to lay out: a checkpoint on hardware, with all that does not depend on the parallel sizes settled.

    None in the last three leaves the value to the layout.
    """

    checkpoint: Checkpoint
    hardware: Hardware
    dtype: str
    max_model_len: int
    max_num_seqs: int | None
    gpu_memory_utilization: float | None
    kv_cache_memory: int | None


def lay_out(inputs: Inputs, tensor: int, pipeline: int = 1) -> Plan:
    """The plan for these sizes, whether it fits or not. They must be legal, and the hardware have that many GPUs."""
    counts = REQUESTS[inputs.hardware.device] if inputs.max_num_seqs is None else (inputs.max_num_seqs,)
    weights = weight_bytes(inputs.checkpoint, inputs.dtype, tensor, pipeline)
    for requests in counts:
        plan = _lay_out(inputs, tensor, pipeline, weights, requests)
        if plan.kv_cache_tokens >= requests * SHORT_REQUEST:
            break
    return plan


def _lay_out(inputs: Inputs, tensor: int, pipeline: int, weights: int, requests: int) -> Plan:
    """The plan for `requests` answers at a time."""
    checkpoint, device = inputs.checkpoint, inputs.hardware.device
    gpus = inputs.hardware.gpus[: tensor * pipeline]
    eager = is_bitsandbytes(checkpoint)
    memory = min((usable(gpu) for gpu in gpus), default=inputs.hardware.memory_available_bytes // tensor)
    utilization = inputs.gpu_memory_utilization or safe_utilization(gpus)
    step = max(requests, step_tokens(gpus))
    block = BLOCK_SIZE[device]
    parts = {
        "weight_bytes": weights,
        "activation_bytes": activation_bytes(checkpoint, inputs.dtype, step, requests, tensor, device),
        "graph_bytes": 0 if eager or device == "cpu" else graph_bytes(requests),
        "process_bytes": cpu_process_bytes(checkpoint, inputs.dtype, tensor) if device == "cpu" else 0,
    }
    per_token = kv_bytes_per_token(checkpoint, inputs.dtype, tensor, pipeline)
    budget = int(memory * utilization)
    kv = kv_bytes(inputs, max(0, budget - sum(parts.values())), requests, per_token, block)
    blocks = kv // (per_token * block)
    return Plan(
        device=device,
        dtype=inputs.dtype,
        quantization=checkpoint.quantization.method if checkpoint.quantization else None,
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        max_model_len=inputs.max_model_len,
        max_num_seqs=requests,
        max_num_batched_tokens=step,
        gpu_memory_utilization=utilization,
        device_memory_bytes=memory,
        budget_bytes=budget,
        **parts,
        kv_cache_bytes=kv,
        kv_bytes_per_token=per_token,
        kv_cache_tokens=blocks * block,
        # vLLM keeps one block for itself (the null block), and a request takes whole blocks.
        full_length_requests=max(0, blocks - 1) // ceil(inputs.max_model_len / block),
        block_size=block,
        enforce_eager=eager,
        legal_tensor_parallel_sizes=legal_tensor_parallel_sizes(checkpoint),
        legal_pipeline_parallel_sizes=legal_pipeline_parallel_sizes(checkpoint, device),
        notes=tuple(notes(inputs, gpus, utilization)),
    )


def usable(gpu: Gpu) -> int:
    """Bytes of a card that CUDA sees: without what the driver keeps."""
    return gpu.memory_bytes - GPU_DRIVER


def is_bitsandbytes(checkpoint: Checkpoint) -> bool:
    """Whether the weights are bitsandbytes'."""
    return checkpoint.quantization is not None and checkpoint.quantization.method == "bitsandbytes"


def step_tokens(gpus: Sequence[Gpu]) -> int:
    """max_num_batched_tokens: see STEP_TOKENS."""
    hopper = bool(gpus) and all(
        gpu.memory_bytes >= LARGE_GPU and float(gpu.compute_capability or 0) >= 9 for gpu in gpus
    )
    return STEP_TOKENS_HOPPER if hopper else STEP_TOKENS


def safe_utilization(gpus: Sequence[Gpu]) -> float:
    """gpu_memory_utilization: UTILIZATION, or less where others use a card, since vLLM takes no more than is free.

    Rounded down to whole per cent.
    """
    shares = [(gpu.memory_available_bytes - GPU_CONTEXT) / usable(gpu) for gpu in gpus]
    return min([UTILIZATION, *(max(0, floor(share * 100)) / 100 for share in shares)])


def kv_bytes(inputs: Inputs, room: int, requests: int, per_token: int, block: int) -> int:
    """Bytes of the KV cache: on a GPU all the room, on a CPU what `requests` long requests fill."""
    if inputs.kv_cache_memory is not None:
        return inputs.kv_cache_memory
    if inputs.hardware.device == "cuda":
        return room
    context = inputs.max_model_len
    long_request = max(SHORT_REQUEST, min(context, LONG_REQUEST))
    blocks = max(ceil(context / block), requests * ceil(long_request / block))
    return min(room, (blocks + 1) * block * per_token)


def notes(inputs: Inputs, gpus: Sequence[Gpu], utilization: float) -> list[str]:
    """What a user should know of this plan and would not expect."""
    lines = []
    if inputs.dtype != inputs.checkpoint.dtype:
        lines.append(f"the checkpoint's {inputs.checkpoint.dtype} is served as {inputs.dtype}")
    if gpus and utilization < UTILIZATION and inputs.gpu_memory_utilization is None:
        lines.append(f"others use the GPU: gpu_memory_utilization is {utilization:.2f} instead of {UTILIZATION}")
    if gpus and is_bitsandbytes(inputs.checkpoint):
        lines.append("bitsandbytes runs without CUDA graphs: a token takes longer at low concurrency than with float16")
    if unused := len(inputs.hardware.gpus) - len(gpus):
        lines.append(f"{unused} of {len(inputs.hardware.gpus)} GPUs stay free: more replicas (--ray) would use them")
    return lines
