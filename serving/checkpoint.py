"""A checkpoint folder: its facts, and the reasons why it cannot be served, found before anything slow.

Read are config.json, generation_config.json, the tokenizer's files and the header of every safetensors file. What they
do not tell is whether a folder holds the base or the chat model of one size: both have the same shape, and the
`_name_or_path` of XuanYuan-6B-Chat's own config.json is "xuanyuan_6b".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

from serving.architecture import (
    DTYPES,
    VOCABULARY_PADDING,
    Architecture,
    check_llama,
    read_architecture,
    read_context,
    read_dtype,
)
from serving.catalog import TEMPLATES, CatalogEntry
from serving.errors import CheckpointError, near
from serving.hub import model_name
from serving.json_files import read_json, read_optional_json
from serving.quantization import Quantization, engine_settings, read_quantization, read_settings
from serving.safetensors_header import TensorInfo
from serving.tensors import check_tensors, expected_tensors
from serving.tokenizer_files import TokenizerFiles, read_tokenizer
from serving.weights import read_tensors, refuse_pickles

__all__ = ["Checkpoint", "Quantization", "TensorInfo", "read_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be served.

    `template` is what it is served with: "6b", "13b", "70b", "own" (its chat template) or "none" (completion only).
    `context` is the longest sequence in tokens. Each of `stop_token_ids` ends an answer; `eos_token_ids` come first.
    `hf_overrides` is what vLLM must be told with --hf-overrides because the folder does not say it; mostly {}.
    `tensors` are those stored or, of a pickled checkpoint, those that its config.json asks for.
    """

    path: Path
    name: str
    entry: CatalogEntry | None
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    template: str
    dtype: str
    quantization: Quantization | None
    tensors: Mapping[str, TensorInfo]
    context: int
    eos_token_ids: tuple[int, ...]
    stop_token_ids: tuple[int, ...]
    hf_overrides: Mapping[str, Any] = field(default_factory=dict)
    control_tokens: tuple[str, ...] = ()

    @cached_property
    def architecture(self) -> Architecture:
        """The model's sizes."""
        return read_architecture(self.config)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors as stored, scales included."""
        return sum(info.bytes for info in self.tensors.values())

    @property
    def hidden_size(self) -> int:
        """Width of the model."""
        return self.architecture.hidden_size

    @property
    def intermediate_size(self) -> int:
        """Width inside each MLP."""
        return self.architecture.intermediate_size

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return self.architecture.num_layers

    @property
    def num_heads(self) -> int:
        """Attention heads of a layer."""
        return self.architecture.num_heads

    @property
    def num_kv_heads(self) -> int:
        """Heads of a layer that have keys and values; fewer than `num_heads` with grouped-query attention."""
        return self.architecture.num_kv_heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.architecture.head_dim

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return self.architecture.vocab_size


def read_checkpoint(
    path: Path,
    *,
    entry: CatalogEntry | None = None,
    name: str | None = None,
    template: str = "auto",
    device: str = "cpu",
    allow_pickle: bool = False,
) -> Checkpoint:
    """Read a folder that `hub.locate` found, for the catalog row `entry`, to be served on `device` ("cpu" or "cuda").

    `name` is the model's name in the API: by default the row's, else the folder's. Raises CheckpointError with the
    reason when the folder is incomplete or damaged, is not what the row says, or is nothing that the engine can serve.
    """
    config_file = _config_file(path)
    config = read_json(config_file)
    check_llama(config, config_file)
    settings = read_settings(path, config)
    quantization = read_quantization(settings, device, path)
    if entry is not None:
        _check_row(entry, config, quantization, path)
    tokenizer = read_tokenizer(path)
    sizes = read_architecture(config)
    _check_vocabulary(tokenizer, sizes.vocab_size, path)
    generation_config = read_optional_json(path / "generation_config.json")
    eos = _eos_token_ids(config, generation_config, tokenizer, path)
    tensors = read_tensors(path)
    pickled = not tensors
    dtype = read_dtype(config, config_file) or _stored_dtype(tensors)
    if pickled:
        refuse_pickles(path, allow_pickle)
        tensors = dict(expected_tensors(sizes, quantization, dtype))
    check_tensors(tensors, sizes, quantization, path)
    stops = [tokenizer.id_of(text) for text in entry.stop] if entry else []
    positions = read_context(config, config_file)
    return Checkpoint(
        path=path,
        name=name or (entry.name if entry else model_name(path)),
        entry=entry,
        config=config,
        generation_config=generation_config,
        template=_template(template, entry, tokenizer, path),
        dtype=dtype,
        quantization=quantization,
        tensors=tensors,
        # XuanYuan-6B's config.json allows 8192 positions, four times what it was trained for.
        context=min(positions, entry.context or positions) if entry else positions,
        eos_token_ids=eos,
        stop_token_ids=_unique([*eos, *stops]),
        hf_overrides=engine_settings(settings, config, pickled),
        control_tokens=tokenizer.control_tokens,
    )


def _config_file(path: Path) -> Path:
    """The folder's config.json, or the reason why there is none."""
    if not path.is_dir():
        raise CheckpointError(f"{path}: is not a folder; expected one with config.json, a tokenizer and *.safetensors")
    if not any(path.iterdir()):
        raise CheckpointError(f"{path}: is empty; expected config.json, a tokenizer and *.safetensors")
    if not (path / "config.json").exists():
        raise CheckpointError(f"{path}: no config.json in it; is it a checkpoint in Hugging Face's form?")
    return path / "config.json"


def _check_row(entry: CatalogEntry, config: Mapping[str, Any], quantization: Quantization | None, path: Path) -> None:
    """Refuse a folder that is called after one checkpoint and holds another."""
    # A config.json without num_key_value_heads means that every head has its own.
    stated = {"num_key_value_heads": config["num_attention_heads"]} | dict(config)
    for key, wanted in entry.shape.items():
        if stated.get(key) != wanted:
            raise CheckpointError(
                f"{path}: {key} = {stated.get(key)}, and {entry.name} has {wanted}: the folder holds another model; "
                "rename it, or name the checkpoint it holds"
            )
    method = quantization.method if quantization else None
    if method != entry.quantization:
        raise CheckpointError(
            f"{path}: quantization is {method or 'none'}, and {entry.name} has {entry.quantization or 'none'}: "
            "the folder holds another form of the model; rename it, or name the checkpoint it holds"
        )


def _check_vocabulary(tokenizer: TokenizerFiles, vocab_size: int, path: Path) -> None:
    """Refuse a tokenizer with ids that the embedding has no row for.

    Tokens that were added to the vocabulary, like XuanYuan-13B's <pad>, may reach into the rows that vLLM pads the
    embedding with; one beyond them would end the engine as soon as a request has it.
    """
    rows = ceil(vocab_size / VOCABULARY_PADDING) * VOCABULARY_PADDING
    for tokens, limit in ((tokenizer.pieces, vocab_size), (tokenizer.added, rows)):
        token = max(tokens, key=lambda text: tokens[text], default=None)
        if token is not None and tokens[token] >= limit:
            raise CheckpointError(
                f"{path}: the tokenizer's {token!r} has id {tokens[token]}, and config.json says "
                f"vocab_size = {vocab_size}: the tokenizer belongs to another model"
            )


def _eos_token_ids(
    config: Mapping[str, Any], generation_config: Mapping[str, Any], tokenizer: TokenizerFiles, path: Path
) -> tuple[int, ...]:
    """The ids that end an answer, from the three places that may name them. At least one must."""
    found: list[Any] = []
    for values in (generation_config.get("eos_token_id"), config.get("eos_token_id")):
        found += values if isinstance(values, list) else [values]
    for number in found:
        if number is not None and (type(number) is not int or not 0 <= number < config["vocab_size"]):
            raise CheckpointError(
                f"{path}: eos_token_id = {number!r}: expected an id below vocab_size = {config['vocab_size']}"
            )
    ids = _unique([*found, tokenizer.id_of(tokenizer.eos_token)])
    if not ids:
        raise CheckpointError(
            f"{path}: no end-of-sequence token: neither config.json, generation_config.json nor the tokenizer names "
            'one, so answers would never stop; set "eos_token_id" in generation_config.json'
        )
    return ids


def _template(asked: str, entry: CatalogEntry | None, tokenizer: TokenizerFiles, path: Path) -> str:
    """The template to serve with: the one asked for, else the row's, else the folder's own, else none."""
    if asked not in ("auto", *TEMPLATES):
        known = ", ".join(TEMPLATES)
        raise CheckpointError(f'{path}: template = "{asked}"{near(asked, list(TEMPLATES))}: expected auto, {known}')
    own = "own" if tokenizer.has_chat_template else "none"
    template = asked if asked != "auto" else entry.template if entry else own
    if template == "own" != own:
        raise CheckpointError(
            f"{path}: is to be served with its own chat template, and has none (tokenizer_config.json)"
        )
    return template


def _stored_dtype(tensors: Mapping[str, TensorInfo]) -> str:
    """The embedding's dtype; where there is no such tensor what vLLM would take, float32."""
    embedding = tensors.get("model.embed_tokens.weight")
    names = {stored: name for name, stored in DTYPES.items()}
    return names.get(embedding.dtype, "float32") if embedding else "float32"


def _unique(ids: Iterable[Any]) -> tuple[Any, ...]:
    """The ids without None and repetitions, in order."""
    return tuple(dict.fromkeys(number for number in ids if number is not None))
