"""Over how many devices a checkpoint can be spread. The rules are vLLM 0.29's; each is named beside its check."""

from serving.checkpoint import Checkpoint
from serving.sizes import padded_vocabulary


def legal_tensor_parallel_sizes(checkpoint: Checkpoint) -> tuple[int, ...]:
    """All sizes over which each layer's matrices can be cut, ascending; 1 is always one of them."""
    sizes = range(1, checkpoint.num_heads + 1)
    return tuple(size for size in sizes if size == 1 or not tensor_parallel_objection(checkpoint, size))


def tensor_parallel_objection(checkpoint: Checkpoint, size: int) -> str:
    """Why the layers cannot be cut into `size` parts, "" if they can."""
    quantization = checkpoint.quantization
    if size == 1:
        return ""
    if quantization and quantization.method == "bitsandbytes":
        # bitsandbytes_loader.py of vllm-bnb-plugin raises for a checkpoint that is quantized already.
        return "bitsandbytes checkpoints cannot be cut; they scale by replicas or, on GPUs, by pipeline_parallel_size"
    if checkpoint.num_heads % size:
        # ModelConfig.verify_with_parallel_config.
        return f"{checkpoint.num_heads} attention heads are not divisible by {size}"
    heads = checkpoint.num_kv_heads
    if heads % size and size % heads:
        # models/llama.py: KV heads are cut, or copied where devices outnumber them.
        return f"{heads} KV heads neither divide {size} nor are divisible by it"
    if checkpoint.intermediate_size % size:
        return f"intermediate size {checkpoint.intermediate_size} is not divisible by {size}"
    if padded_vocabulary(checkpoint) % size:
        return f"the vocabulary, padded to {padded_vocabulary(checkpoint)}, is not divisible by {size}"
    return _group_objection(checkpoint, size)


def _group_objection(checkpoint: Checkpoint, size: int) -> str:
    """GPTQ: a device must hold whole groups of the inputs it has of o_proj and down_proj (marlin_utils.py)."""
    group = checkpoint.quantization.group_size if checkpoint.quantization else None
    if not group or group < 0:
        return ""
    for name, inputs in (
        ("attention output", checkpoint.num_heads * checkpoint.head_dim),
        ("intermediate size", checkpoint.intermediate_size),
    ):
        if inputs // size % group:
            return f"{name} {inputs} / {size} is not a whole number of quantization groups of {group}"
    return ""


def legal_pipeline_parallel_sizes(checkpoint: Checkpoint, device: str) -> tuple[int, ...]:
    """All numbers of stages, ascending. On a CPU only 1: with 2, vLLM 0.29 starts and dies at the first request."""
    return (1,) if device == "cpu" else tuple(range(1, checkpoint.num_layers + 1))
