"""The family's 6B checkpoints at their true size, without their bytes: headers, tokenizer and configuration are whole,
the weights are holes in a file. What reads headers alone, as plan and `--dry-run` do, takes them for the real ones."""

import json
from pathlib import Path
from typing import Any

from serving.architecture import read_architecture
from serving.quantization import Quantization
from serving.tensors import expected_tensors
from tests.family import make_tokenizer

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 39438,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "torch_dtype": "float16",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True}
FORMS: dict[str, tuple[dict[str, Any], Quantization | None]] = {
    "XuanYuan-6B": ({}, None),
    "XuanYuan-6B-Chat": ({}, None),
    "XuanYuan-6B-Chat-8bit": ({"quantization_config": INT8}, Quantization("bitsandbytes", 8)),
    "XuanYuan-6B-Chat-4bit": (
        {"quantization_config": GPTQ},
        Quantization("gptq", 4, group_size=128, sym=True, desc_act=False),
    ),
}


def make_checkpoint(folder: Path, name: str) -> Path:
    """Write the checkpoint of this name of the catalog into `folder`."""
    extra, quantization = FORMS[name]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | extra))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
    make_tokenizer(folder)
    write_holes(folder / "model.safetensors", quantization)
    return folder


def write_holes(path: Path, quantization: Quantization | None) -> None:
    """A safetensors file of all tensors that the model needs, whose data takes no room on the disk."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, info in expected_tensors(read_architecture(CONFIG), quantization, "float16"):
        header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [end, end + info.bytes]}
        end += info.bytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def into_hub_cache(checkpoint: Path, weights: Path, name: str, *, hub: str = "huggingface") -> None:
    """Put a checkpoint where the hubs' clients look, below the volume `weights` as the chart has it."""
    if hub == "modelscope":
        place = weights / "modelscope" / "models" / "Duxiaoman-DI" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(checkpoint)
        return
    commit = "0" * 40
    repository = weights / "huggingface" / "hub" / f"models--Duxiaoman-DI--{name}"
    for reference in ("main", "refs/pr/1"):
        file = repository / "refs" / reference
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(checkpoint)


def fake_nvidia_smi(folder: Path, count: int = 1) -> Path:
    """A program that says that there are A800s of 80 GB. Returns its folder, for PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{index}, GPU-{index}, NVIDIA A800-SXM4-80GB, 81920, 81000, 8.0\\n" for index in range(count))
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    program.chmod(0o755)
    return folder
