"""A LLaMA checkpoint of a few kilobytes in every stored form, for tests that break it. Its weights are zeros."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INTERMEDIATE, LAYERS, HEADS, VOCABULARY = 64, 128, 2, 4, 300
GROUP = 32
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "torch_dtype": "float16",
    "eos_token_id": 2,
}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False}
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True}
MATRICES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
Tensors = dict[str, np.ndarray[Any, Any]]


def make_tiny(folder: Path, form: str = "fp16", *, sharded: bool = False) -> Path:
    """Write a checkpoint as "fp16", "gptq" (4 bits) or "int8" (bitsandbytes), in one file or in two and an index."""
    folder.mkdir(parents=True)
    quantization = {"fp16": {}, "gptq": {"quantization_config": GPTQ}, "int8": {"quantization_config": INT8}}[form]
    write(folder / "config.json", CONFIG | quantization)
    write(folder / "generation_config.json", {"eos_token_id": 2})
    make_tokenizer(folder)
    found = tensors(form)
    if not sharded:
        save_file(found, folder / "model.safetensors")
        return folder
    parts = {
        "model-00001-of-00002.safetensors": {name: found[name] for name in found if ".layers.0." in name},
        "model-00002-of-00002.safetensors": {name: found[name] for name in found if ".layers.0." not in name},
    }
    for name, part in parts.items():
        save_file(part, folder / name)
    total = sum(array.nbytes for array in found.values())
    weight_map = {tensor: name for name, part in parts.items() for tensor in part}
    write(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    return folder


def tensors(form: str = "fp16") -> Tensors:
    """All tensors of a form, filled with zeros."""
    found = {
        "model.embed_tokens.weight": half(VOCABULARY, HIDDEN),
        "model.norm.weight": half(HIDDEN),
        "lm_head.weight": half(VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}{norm}.weight"] = half(HIDDEN)
        for name, (rows, columns) in MATRICES.items():
            found |= {f"{prefix}{name}.{suffix}": array for suffix, array in matrix(form, rows, columns).items()}
    return found


def matrix(form: str, rows: int, columns: int) -> Tensors:
    """What stands for one linear layer, as transformers, auto-gptq and bitsandbytes write it."""
    if form == "gptq":
        groups = columns // GROUP
        return {
            "qweight": np.zeros((columns // 8, rows), np.int32),
            "qzeros": np.zeros((groups, rows // 8), np.int32),
            "scales": half(groups, rows),
            "g_idx": np.zeros(columns, np.int32),
        }
    if form == "int8":
        return {"weight": np.zeros((rows, columns), np.int8), "SCB": np.zeros(rows, np.float32)}
    return {"weight": half(rows, columns)}


def half(*shape: int) -> np.ndarray[Any, Any]:
    """Zeros in float16."""
    return np.zeros(shape, np.float16)


def make_tokenizer(folder: Path) -> None:
    """A tokenizer.json by the `tokenizers` library: 259 pieces, `</s>` is 2."""
    from tokenizers import Tokenizer, models

    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": byte + 3 for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder / "tokenizer_config.json", {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}})


def write(file: Path, value: object) -> None:
    """A JSON file."""
    file.write_text(json.dumps(value), encoding="utf-8")


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    """What changes keys of a folder's JSON file `name`; None removes one."""

    def apply(folder: Path) -> None:
        value = json.loads((folder / name).read_text(encoding="utf-8")) | changes
        write(folder / name, {key: item for key, item in value.items() if item is not None})

    return apply
