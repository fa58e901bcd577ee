"""What to say where a checkpoint does not fit: the numbers, and what would fit."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from serving.catalog import load_catalog
from serving.checkpoint import Quantization
from serving.errors import DoesNotFitError
from serving.gpus import Gpu, known_gpus
from serving.layout import UTILIZATION, Inputs, Plan, lay_out
from serving.parallel import legal_pipeline_parallel_sizes, legal_tensor_parallel_sizes
from serving.tensors import expected_tensors
from serving.units import format_bytes

# The family's quantized forms: LLM.int8, and GPTQ with auto-gptq's defaults.
FORMS = (Quantization("bitsandbytes", 8), Quantization("gptq", 4, group_size=128, sym=True, desc_act=False))
# A context is offered in these steps, and not below one of them.
CONTEXT_STEP = 256
MOST_GPUS = 8


def does_not_fit(inputs: Inputs, plan: Plan) -> DoesNotFitError:
    """The refusal of a plan that holds no request of full length, or whose KV cache is more than there is room for."""
    offers = list(remedies(inputs, plan))
    advice = f" What would fit: {'; or '.join(offers)}." if offers else ""
    return DoesNotFitError(f"{inputs.checkpoint.name} does not fit on {place(inputs, plan)}: {shortage(plan)}.{advice}")


def place(inputs: Inputs, plan: Plan) -> str:
    """The devices in words: "one T4", "2 x A800-80G that others use too", "a CPU with 14.0 GiB free"."""
    if plan.device == "cpu":
        return f"a CPU with {format_bytes(inputs.hardware.memory_available_bytes)} free"
    shared = inputs.gpu_memory_utilization is None and plan.gpu_memory_utilization < UTILIZATION
    number = "one" if plan.devices == 1 else f"{plan.devices} x"
    return f"{number} {inputs.hardware.gpus[0].name}{' that others use too' if shared else ''}"


def shortage(plan: Plan) -> str:
    """The sum that does not come out."""
    parts = {
        "weights": plan.weight_bytes,
        "activations": plan.activation_bytes,
        "CUDA graphs": plan.graph_bytes,
        "processes": plan.process_bytes,
    }
    needs = " + ".join(f"{name} {format_bytes(size)}" for name, size in parts.items() if size)
    budget, memory = format_bytes(plan.budget_bytes), format_bytes(plan.device_memory_bytes)
    available = f"{budget} ({plan.gpu_memory_utilization:.0%} of {memory})"
    if plan.full_length_requests:
        return f"{needs} + a KV cache of {format_bytes(plan.kv_cache_bytes)} are more than {available}"
    request = f"one request of {plan.max_model_len:,} tokens needs {format_bytes(request_bytes(plan))} of KV cache"
    left = plan.budget_bytes - plan.fixed_bytes
    if left < 0:
        return f"{needs} are {format_bytes(-left)} more than {available}, and {request}"
    return f"{needs} leave {format_bytes(min(left, plan.kv_cache_bytes))} of {available}, and {request}"


def request_bytes(plan: Plan) -> int:
    """Bytes of KV cache for one request of full length, with the block that vLLM keeps for itself."""
    return (ceil(plan.max_model_len / plan.block_size) + 1) * plan.block_size * plan.kv_bytes_per_token


def remedies(inputs: Inputs, plan: Plan) -> Iterator[str]:
    """Changes after which it fits, the smallest first."""
    room = plan.budget_bytes - plan.fixed_bytes
    if inputs.kv_cache_memory is not None and room >= request_bytes(plan):
        yield f"--kv-cache-memory-bytes from {request_bytes(plan)} to {room}"
        return
    context = (room // plan.kv_bytes_per_token - 2 * plan.block_size) // CONTEXT_STEP * CONTEXT_STEP
    if context > 0:
        yield f"--max-model-len {context}"
    yield from other_forms(inputs, plan)
    if plan.device == "cuda":
        yield from other_gpus(inputs)
    else:
        missing = (request_bytes(plan) - room) / plan.gpu_memory_utilization * plan.devices
        yield f"{format_bytes(ceil(missing))} more free memory"


def other_forms(inputs: Inputs, plan: Plan) -> Iterator[str]:
    """The quantized forms that fit on the same devices, with what they need for one request of full length."""
    checkpoint = inputs.checkpoint
    if checkpoint.quantization:
        return
    catalog = load_catalog()
    for quantization in FORMS:
        tensors = dict(expected_tensors(checkpoint.architecture, quantization, "float16"))
        form = replace(inputs, checkpoint=replace(checkpoint, quantization=quantization, tensors=tensors))
        if plan.tensor_parallel_size in legal_tensor_parallel_sizes(form.checkpoint):
            other = lay_out(form, plan.tensor_parallel_size, plan.pipeline_parallel_size)
        else:
            other = lay_out(form, 1, plan.devices)
        if other.fits:
            row = catalog.get(f"{checkpoint.entry.name}-{quantization.bits}bit") if checkpoint.entry else None
            name = row.name if row else f"a {quantization.bits}-bit form"
            each = "" if plan.devices == 1 else " on each"
            yield f"{name}, which needs {format_bytes(other.fixed_bytes + request_bytes(other))}{each}"


def other_gpus(inputs: Inputs) -> Iterator[str]:
    """The fewest of the same GPUs on which it fits; where MOST_GPUS are too few, the cards with the least memory."""
    present = inputs.hardware.gpus[0]
    plans = {gpu: plan for gpu in (present, *known_gpus()) if (plan := fewest(inputs, gpu))}
    if plans:
        gpu = present if present in plans else min(plans, key=lambda gpu: plans[gpu].devices * gpu.memory_bytes)
        tensor, pipeline = plans[gpu].tensor_parallel_size, plans[gpu].pipeline_parallel_size
        stages = f" --pipeline-parallel-size {pipeline}" if pipeline > 1 else ""
        yield f"{tensor * pipeline} x {gpu.name} (--tensor-parallel-size {tensor}{stages})"


def fewest(inputs: Inputs, gpu: Gpu) -> Plan | None:
    """The plan that fits on the fewest such cards, in more than one stage only where nothing else does; or None."""
    more = replace(inputs, hardware=replace(inputs.hardware, gpus=(gpu,) * MOST_GPUS))
    tensors = legal_tensor_parallel_sizes(inputs.checkpoint)
    stages = legal_pipeline_parallel_sizes(inputs.checkpoint, "cuda")
    sizes = [(tensor, stage) for stage in stages for tensor in tensors if tensor * stage <= MOST_GPUS]
    return next((plan for tensor, stage in sizes if (plan := lay_out(more, tensor, stage)).fits), None)
