"""How many bytes each part of a served model takes. Pure arithmetic on config.json and the safetensors headers.

"On a device" means on one of the tensor_parallel_size x pipeline_parallel_size devices (GPUs, or workers on a CPU): the
fullest of them where they differ. d is the hidden size, f the intermediate size, V the vocabulary.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from math import ceil, prod

from serving.architecture import VOCABULARY_PADDING
from serving.checkpoint import Checkpoint, TensorInfo
from serving.units import GIB, MIB

DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
FLOATING = ("F16", "BF16", "F32")
# Tokens in a block of the KV cache. On a GPU vLLM's own default (CacheConfig.DEFAULT_BLOCK_SIZE). On a CPU that is 128,
# and attention computes whole blocks: the smallest that its kernels take are faster, and share shorter prefixes.
BLOCK_SIZE = {"cpu": 32, "cuda": 16}
# cuBLAS workspaces and kernels that the first forward pass loads. vLLM's logs show 0.16 to 0.33 GiB as "non-torch
# memory".
GPU_LIBRARIES = GIB // 4
# vLLM 0.29's logs in its public tracker: 16 graphs 0.36, 30 graphs 0.14, 86 graphs 0.73 GiB.
BYTES_PER_GRAPH = 10 * MIB
# Measured on the demo (Pss without weights, KV cache and repacked vocabulary): API server and engine core 0.83 GiB; the
# worker 0.35 GiB when ready and 0.42 after 32 requests of 600 tokens. With LLM.int8 those left it 0.52 GiB larger:
# memory that its products had used and the allocator keeps.
CPU_SERVER = GIB
CPU_WORKER = GIB // 2
CPU_INT8 = GIB // 2


def weight_bytes(checkpoint: Checkpoint, dtype: str, tensor: int = 1, pipeline: int = 1) -> int:
    """Bytes of weights on a device when served as `dtype`.

    Quantized tensors count as stored, scales and zero points included; the others as `dtype`, whatever the file holds.
    A tied output head counts once, but again on the last of several stages. The vocabulary is padded as vLLM pads it.
    """
    per_layer: dict[int, int] = defaultdict(int)
    embedding = rest = 0
    for name, info in loaded_tensors(checkpoint):
        size = _on_device(checkpoint, name, _served(checkpoint, info, dtype), info, tensor)
        layer = re.search(r"\.layers\.(\d+)\.", name)
        if layer:
            per_layer[int(layer[1])] += size
        elif "embed_tokens" in name:
            embedding += size
        else:
            rest += size
    if checkpoint.architecture.tied and pipeline > 1:
        rest += embedding
    return max(
        sum(per_layer[layer] for layer in stage)
        + (embedding if stage.start == 0 else 0)
        + (rest if stage.stop == checkpoint.num_layers else 0)
        for stage in pipeline_stages(checkpoint.num_layers, pipeline)
    )


def loaded_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, TensorInfo]]:
    """What vLLM reads of the file: not old checkpoints' rotary tables, nor a second copy of a tied head."""
    for name, info in checkpoint.tensors.items():
        if "rotary_emb." not in name and not (checkpoint.architecture.tied and name.startswith("lm_head.")):
            yield name, info


def padded_vocabulary(checkpoint: Checkpoint) -> int:
    """Rows of the embedding as vLLM allocates it: 39,438 -> 39,488."""
    return ceil(checkpoint.vocab_size / VOCABULARY_PADDING) * VOCABULARY_PADDING


def pipeline_stages(layers: int, pipeline: int) -> list[range]:
    """The layers of each stage, split as vLLM splits them (vllm.distributed.utils.get_pp_indices)."""
    counts = [layers // pipeline] * pipeline
    for stage in range(2, layers % pipeline + 2):
        counts[-stage] += 1
    starts = [sum(counts[:stage]) for stage in range(pipeline)]
    return [range(start, start + count) for start, count in zip(starts, counts, strict=True)]


def kv_bytes_per_token(checkpoint: Checkpoint, dtype: str, tensor: int = 1, pipeline: int = 1) -> int:
    """Bytes of keys and values of one token on a device: 2 x layers x KV heads x head size x bytes of an element.

    With more devices than KV heads each device keeps one head, a copy.
    """
    layers = ceil(checkpoint.num_layers / pipeline)
    heads = max(1, checkpoint.num_kv_heads // tensor)
    return 2 * layers * heads * checkpoint.head_dim * DTYPE_BYTES[dtype]


def activation_bytes(checkpoint: Checkpoint, dtype: str, tokens: int, requests: int, tensor: int, device: str) -> int:
    """Bytes that a forward pass over `tokens` tokens and sampling for `requests` requests take besides weights and KV.

    tokens x (4 d + attention's q, k, v and output + 3 f) elements: residual, normed input, layer output and its sum;
    gate, up and their product. Logits: 20 bytes for each of requests x V: float32, sorted, the sort's int64 indices,
    probabilities.
    """
    heads = ceil((2 * checkpoint.num_heads + 2 * checkpoint.num_kv_heads) / tensor)
    width = 4 * checkpoint.hidden_size + heads * checkpoint.head_dim + 3 * ceil(checkpoint.intermediate_size / tensor)
    logits = 20 * requests * padded_vocabulary(checkpoint)
    return tokens * width * DTYPE_BYTES[dtype] + logits + (GPU_LIBRARIES if device == "cuda" else 0)


def graph_bytes(requests: int) -> int:
    """Bytes of the CUDA graphs that vLLM captures for up to `requests` requests at once.

    One for each batch size of its list: piecewise up to twice the requests (at most 512), full up to the requests.
    """
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    limits = (min(2 * requests, 512), requests)
    return BYTES_PER_GRAPH * sum(1 for limit in limits for size in sizes if size <= limit)


def cpu_process_bytes(checkpoint: Checkpoint, dtype: str, tensor: int) -> int:
    """Bytes a worker on the CPU takes besides weights, KV cache and activations, its share of the server's included.

    vLLM's CPU build repacks both ends of the vocabulary (input embedding and output head, tied or not) for oneDNN and
    keeps the originals.
    """
    repacked = 2 * padded_vocabulary(checkpoint) * checkpoint.hidden_size * DTYPE_BYTES[dtype] // tensor
    quantization = checkpoint.quantization
    int8 = CPU_INT8 if quantization and (quantization.method, quantization.bits) == ("bitsandbytes", 8) else 0
    return CPU_SERVER // tensor + CPU_WORKER + int8 + repacked


def _served(checkpoint: Checkpoint, info: TensorInfo, dtype: str) -> int:
    """Bytes of a whole tensor in memory."""
    if info.dtype not in FLOATING or (checkpoint.quantization and info.dtype == "F32"):
        return info.bytes  # packed weights, and bitsandbytes' statistics, which stay float32
    return prod(info.shape) * DTYPE_BYTES[dtype]


def _on_device(checkpoint: Checkpoint, name: str, size: int, info: TensorInfo, tensor: int) -> int:
    """Bytes of a tensor on one of `tensor` devices: matrices are cut, vectors and KV heads in the minority copied."""
    if len(info.shape) < 2:
        return size
    if "embed_tokens" in name or name.startswith("lm_head."):
        return size * padded_vocabulary(checkpoint) // checkpoint.vocab_size // tensor
    if re.search(r"\.[kv]_proj\.", name):
        return size // min(tensor, checkpoint.num_kv_heads)
    return size // tensor
