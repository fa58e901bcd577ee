"""A checkpoint of the LLaMA architecture as one GGUF file, for llama.cpp: the same weights, at the precision they have.

    python -m benchmarks.gguf_file FOLDER FILE

Matrices are copied bit for bit; the vectors of the norms become float32, which holds them exactly and which llama.cpp
wants. Rows of the query and key projections change places, as llama.cpp rotates neighbours where transformers rotates
halves. torch is not imported, and no more than one tensor is in memory.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType, TokenType

from benchmarks.console import BenchmarkError
from benchmarks.gguf_vocabulary import Vocabulary, read_vocabulary

# What safetensors calls a type: what GGUF calls it, as a tensor's and as a whole file's.
TYPES = {
    "BF16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "F16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
}
ROPE = "rotary_emb.inv_freq"


@dataclass(frozen=True)
class Tensor:
    """One tensor in a safetensors file: its type there, its shape, and where its bytes are."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int

    def bytes(self) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Its bytes as they lie in the file, shaped (…, bytes of a row)."""
        width = 4 if self.dtype == "F32" else 2
        shape = (*self.shape[:-1], self.shape[-1] * width)
        return np.memmap(self.file, np.uint8, "r", self.start, shape)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """What the folder's safetensors files hold, by name. Raises BenchmarkError for none, or for quantized ones."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(size))
        for name, entry in header.items():
            if name != "__metadata__" and not name.endswith(ROPE):
                start = 8 + size + entry["data_offsets"][0]
                found[name] = Tensor(entry["dtype"], tuple(entry["shape"]), file, start)
    if not found:
        raise BenchmarkError(f"{folder} has no safetensors files")
    if odd := sorted({tensor.dtype for tensor in found.values()} - set(TYPES)):
        raise BenchmarkError(f"{folder} holds {', '.join(odd)}: only {', '.join(TYPES)} go into GGUF unchanged")
    return found


def permuted(rows: "np.ndarray[Any, np.dtype[np.uint8]]", heads: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The rows (heads x 2 halves x n) in the order heads x n x 2."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2)).reshape(rows.shape)


def as_float32(tensor: Tensor) -> "np.ndarray[Any, np.dtype[np.float32]]":
    if tensor.dtype == "BF16":
        return (tensor.bytes().view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return tensor.bytes().view({"F16": np.float16, "F32": np.float32}[tensor.dtype]).astype(np.float32)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder, read as far as its headers."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    vocabulary: Vocabulary

    @property
    def heads(self) -> int:
        return int(self.config["num_attention_heads"])

    @property
    def kv_heads(self) -> int:
        return int(self.config.get("num_key_value_heads") or self.heads)

    @property
    def head_dim(self) -> int:
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.heads)

    @property
    def dtype(self) -> str:
        """The type of its matrices."""
        return next(tensor.dtype for tensor in self.tensors.values() if len(tensor.shape) == 2)

    @property
    def rope(self) -> Mapping[str, Any]:
        """rope_theta and whatever scaling there is, in transformers 5's place or in the older one."""
        own = self.config.get("rope_parameters") or self.config.get("rope_scaling") or {}
        return {"rope_theta": self.config.get("rope_theta", 10000.0), **own}

    def data(self, name: str) -> "np.ndarray[Any, Any]":
        """The tensor as GGUF has it: float32 for a vector, else bytes."""
        tensor = self.tensors[name]
        if len(tensor.shape) == 1:
            return as_float32(tensor)
        if name.endswith("q_proj.weight"):
            return permuted(tensor.bytes(), self.heads)
        if name.endswith("k_proj.weight"):
            return permuted(tensor.bytes(), self.kv_heads)
        return tensor.bytes()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Raises BenchmarkError for what cannot be written unchanged: another architecture, quantized or scaled."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{folder / 'config.json'}: {error}") from error
    names = config.get("architectures") or [config.get("model_type")]
    if names[0] not in ("LlamaForCausalLM", "llama"):
        raise BenchmarkError(
            f"{folder} is of the architecture {names[0]}: only LlamaForCausalLM is written as GGUF here"
        )
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method")
        raise BenchmarkError(f"{folder} is quantized ({method}), for which GGUF has no equal form")
    found = Checkpoint(config, read_tensors(folder), read_vocabulary(folder, config["vocab_size"]))
    if (kind := found.rope.get("rope_type", found.rope.get("type", "default"))) != "default":
        raise BenchmarkError(f"{folder} scales its rotary embedding ({kind}), which is not written as GGUF here")
    return found


def tensor_names(checkpoint: Checkpoint) -> Iterator[tuple[str, str]]:
    """(name in the checkpoint, name in GGUF) of each. Raises BenchmarkError for one that LLaMA does not have."""
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, checkpoint.config["num_hidden_layers"])
    for name in checkpoint.tensors:
        if name == "lm_head.weight" and checkpoint.config.get("tie_word_embeddings"):
            continue
        new = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise BenchmarkError(f"tensor {name} has no place in GGUF's llama architecture")
        yield name, new


def add_settings(writer: Any, checkpoint: Checkpoint, name: str) -> None:
    """What llama.cpp must know of the model's shape."""
    config = checkpoint.config
    writer.add_name(name)
    writer.add_file_type(TYPES[checkpoint.dtype][1])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(checkpoint.heads)
    writer.add_head_count_kv(checkpoint.kv_heads)
    writer.add_key_length(checkpoint.head_dim)
    writer.add_value_length(checkpoint.head_dim)
    writer.add_rope_dimension_count(checkpoint.head_dim)
    writer.add_rope_freq_base(float(checkpoint.rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.texts)
    writer.add_token_types([TokenType(kind) for kind in vocabulary.types])
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    vocabulary.special.add_to_gguf(writer, quiet=True)


def write(folder: Path, file: Path) -> None:
    """Write the checkpoint in `folder` as `file`. Raises BenchmarkError for one that cannot be written unchanged."""
    checkpoint = read_checkpoint(folder)
    writer = gguf.GGUFWriter(file, "llama")
    add_settings(writer, checkpoint, folder.name)
    add_vocabulary(writer, checkpoint.vocabulary)
    pairs = list(tensor_names(checkpoint))
    for old, new in pairs:
        tensor = checkpoint.tensors[old]
        vector = len(tensor.shape) == 1
        size = math.prod(tensor.shape) * (4 if vector or tensor.dtype == "F32" else 2)
        kind = GGMLQuantizationType.F32 if vector else TYPES[tensor.dtype][0]
        # The type beside the shape only tells the writer that the shape counts elements, not bytes.
        writer.add_tensor_info(new, tensor.shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for old, _ in pairs:
        writer.write_tensor_data(checkpoint.data(old))
    writer.close()


def main() -> int:
    folder, file = map(Path, sys.argv[1:])
    try:
        write(folder, file)
    except (BenchmarkError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
