"""Checkpoints of known sizes, without a folder."""

from pathlib import Path
from typing import Any

from serving.architecture import read_architecture
from serving.catalog import load_catalog
from serving.checkpoint import Checkpoint, Quantization
from serving.tensors import expected_tensors

GPTQ = Quantization("gptq", 4, group_size=128, sym=True, desc_act=False)
LLM_INT8 = Quantization("bitsandbytes", 8)


def model(
    name: str = "XuanYuan-6B-Chat",
    *,
    layers: int = 30,
    hidden: int = 4096,
    intermediate: int = 11008,
    heads: int = 32,
    kv_heads: int = 32,
    vocabulary: int = 39438,
    context: int = 2048,
    dtype: str = "float16",
    tied: bool = False,
    quantization: Quantization | None = None,
) -> Checkpoint:
    """A checkpoint without a folder. By default XuanYuan-6B's sizes, with LLaMA-7B's intermediate size for its own."""
    config: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }
    return Checkpoint(
        path=Path(name),
        name=name,
        entry=load_catalog().get(name),
        config=config,
        generation_config={},
        template="none",
        dtype=dtype,
        quantization=quantization,
        tensors=dict(expected_tensors(read_architecture(config), quantization, dtype)),
        context=context,
        eos_token_ids=(2,),
        stop_token_ids=(2,),
    )


SIX = model()
SEVEN = model("Llama-2-7B", layers=32, vocabulary=32000, context=4096)
THIRTEEN = model("Llama-2-13B", layers=40, hidden=5120, intermediate=13824, heads=40, kv_heads=40, vocabulary=32000)
LLAMA_70B: dict[str, Any] = {"layers": 80, "hidden": 8192, "intermediate": 28672, "heads": 64, "kv_heads": 8}
SEVENTY = model("XuanYuan-70B-Chat", **LLAMA_70B, vocabulary=32000, context=8192)
SEVENTY_INT8 = model("XuanYuan-70B-Chat-8bit", **LLAMA_70B, vocabulary=32000, context=8192, quantization=LLM_INT8)
DEMO = model(
    "demo",
    hidden=576,
    intermediate=1536,
    heads=9,
    kv_heads=3,
    vocabulary=49152,
    context=8192,
    dtype="bfloat16",
    tied=True,
)
