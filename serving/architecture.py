"""What config.json says of a LLaMA model, and which tensors such a model has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.errors import CheckpointError

# The second spelling is older; vLLM serves both with its LlamaForCausalLM (vllm/model_executor/models/registry.py).
ARCHITECTURES = ("LlamaForCausalLM", "LLaMAForCausalLM")
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)
DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
# vLLM gives the embedding a multiple of this many rows (DEFAULT_VOCAB_PADDING_SIZE in its vocab_parallel_embedding.py).
VOCABULARY_PADDING = 64
# RoPE kinds whose max_position_embeddings is the stretched length already (vllm/config/model.py, as in `read_context`).
STRETCHED_ALREADY = ("default", "su", "longrope", "llama3")


@dataclass(frozen=True)
class Architecture:
    """The sizes of a LLaMA model. `tied`: the output layer is the embedding."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tied: bool

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Name, rows (outputs) and columns (inputs) of each linear layer that quantization applies to."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        sizes = {
            "self_attn.q_proj": (queries, self.hidden_size),
            "self_attn.k_proj": (keys, self.hidden_size),
            "self_attn.v_proj": (keys, self.hidden_size),
            "self_attn.o_proj": (self.hidden_size, queries),
            "mlp.gate_proj": (self.intermediate_size, self.hidden_size),
            "mlp.up_proj": (self.intermediate_size, self.hidden_size),
            "mlp.down_proj": (self.hidden_size, self.intermediate_size),
        }
        for layer in range(self.num_layers):
            for name, (rows, columns) in sizes.items():
                yield f"model.layers.{layer}.{name}", rows, columns

    def never_quantized(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of the embedding, the norms and the output layer."""
        yield "model.embed_tokens.weight", (self.vocab_size, self.hidden_size)
        for layer in range(self.num_layers):
            for name in ("input_layernorm", "post_attention_layernorm"):
                yield f"model.layers.{layer}.{name}.weight", (self.hidden_size,)
        yield "model.norm.weight", (self.hidden_size,)
        if not self.tied:
            yield "lm_head.weight", (self.vocab_size, self.hidden_size)


def check_llama(config: Mapping[str, Any], file: Path) -> None:
    """Raise CheckpointError unless config.json is a LLaMA model's whose sizes can be right."""
    names = config.get("architectures")
    names = names if isinstance(names, list) else [names]
    if not any(name in ARCHITECTURES for name in names) or config.get("model_type") != "llama":
        raise CheckpointError(
            f"{file}: architectures = {names}, model_type = {config.get('model_type')!r}: not a LLaMA model; "
            f'expected {ARCHITECTURES[0]} and "llama", as all of the XuanYuan family are'
        )
    if config.get("auto_map"):
        raise CheckpointError(
            f"{file}: auto_map = {config['auto_map']}: needs Python code of its own, which is never run here"
        )
    for key in SIZES:
        _check_size(config, key, file)
    for key in ("num_key_value_heads", "head_dim"):
        if config.get(key) is not None:
            _check_size(config, key, file)
    sizes = read_architecture(config)
    if config.get("head_dim") is None and sizes.hidden_size % sizes.num_heads:
        raise CheckpointError(
            f"{file}: hidden_size = {sizes.hidden_size} is not a multiple of num_attention_heads = {sizes.num_heads}"
        )
    if sizes.num_heads % sizes.num_kv_heads:
        raise CheckpointError(
            f"{file}: num_attention_heads = {sizes.num_heads} is not a multiple of "
            f"num_key_value_heads = {sizes.num_kv_heads}"
        )


def read_architecture(config: Mapping[str, Any]) -> Architecture:
    """The sizes in a config.json that `check_llama` has passed."""
    heads = config["num_attention_heads"]
    return Architecture(
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        # LLaMA 1 and 2 below 70B have no such keys: every head has keys and values of its own.
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocab_size=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def read_dtype(config: Mapping[str, Any], file: Path) -> str | None:
    """ "float16", "bfloat16" or "float32" as config.json says it; None where it does not."""
    # transformers 5 writes dtype; before, it was torch_dtype, with or without "torch." in front.
    value = config.get("dtype") or config.get("torch_dtype")
    if value is None:
        return None
    name = str(value).removeprefix("torch.")
    if name not in DTYPES:
        raise CheckpointError(f"{file}: torch_dtype = {value!r}: expected one of {', '.join(DTYPES)}")
    return name


def read_context(config: Mapping[str, Any], file: Path) -> int:
    """The longest sequence in tokens: max_position_embeddings, stretched as vLLM does by what RoPE scaling says."""
    positions: int = config["max_position_embeddings"]
    # transformers 5 writes rope_parameters and rope_type; before, they were rope_scaling and type.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(f"{file}: rope_scaling = {rope!r}: expected an object")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind in STRETCHED_ALREADY:
        return positions
    factor = rope.get("factor") or 1.0
    if kind == "yarn":
        positions = rope.get("original_max_position_embeddings") or positions
    if not isinstance(factor, int | float) or not isinstance(positions, int):
        raise CheckpointError(
            f"{file}: rope_scaling = {rope}: expected numbers for factor and original_max_position_embeddings"
        )
    return int(positions * factor)


def _check_size(config: Mapping[str, Any], key: str, file: Path) -> None:
    value = config.get(key)
    if type(value) is not int or value <= 0:
        what = "is missing" if value is None else f"= {value!r}"
        raise CheckpointError(f"{file}: {key} {what}: expected a whole number above 0")
