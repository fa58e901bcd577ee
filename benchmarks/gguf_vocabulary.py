"""A checkpoint's tokens as GGUF wants them: those of a SentencePiece model, or of a byte-level BPE."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from gguf import TokenType

from benchmarks.console import BenchmarkError

# How text is cut before it is merged: the pre-tokenizers of tokenizer.json, and what llama.cpp calls that.
PRE = {("ByteLevel",): "gpt-2", ("Digits", "ByteLevel"): "smollm"}


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id. `scores` is empty where merges have ranks instead; these, the special ids and the chat template
    are in `special`."""

    model: str
    pre: str
    texts: list[bytes]
    types: list[int]
    scores: list[float]
    special: Any


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """The folder's tokenizer, filled up to `size` tokens. Raises BenchmarkError for a kind that is not known here."""
    if (folder / "tokenizer.model").is_file():
        tokens = [(text, kind, score) for text, score, kind in gguf.SentencePieceVocab(folder).all_tokens()]
        return vocabulary("llama", "default", tokens, gguf.SpecialVocab(folder, n_vocab=size), size)
    try:
        tokenizer = json.loads((folder / "tokenizer.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{folder} has no tokenizer.model, and {error}") from error
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=size)
    return vocabulary("gpt2", pre_tokenizer(tokenizer, folder), byte_level(tokenizer), special, size)


def vocabulary(model: str, pre: str, tokens: list[tuple[bytes, int, float]], special: Any, size: int) -> Vocabulary:
    """Tokens that the tokenizer has no text for get a name, as the embedding has a row for each."""
    tokens = tokens + [(f"[PAD{number}]".encode(), TokenType.UNUSED, -1000.0) for number in range(len(tokens), size)]
    texts, types, scores = zip(*tokens, strict=True)
    return Vocabulary(model, pre, list(texts), list(types), list(scores) if model == "llama" else [], special)


def pre_tokenizer(tokenizer: Mapping[str, Any], folder: Path) -> str:
    """llama.cpp's name for it. Raises BenchmarkError for one that would cut the text otherwise."""
    found = tokenizer.get("pre_tokenizer") or {}
    steps = tuple(step.get("type") for step in found.get("pretokenizers", [found]))
    if tokenizer["model"].get("type") != "BPE" or steps not in PRE:
        words = f"{tokenizer['model'].get('type')} after {' and '.join(map(str, steps))}"
        raise BenchmarkError(f"{folder / 'tokenizer.json'}: {words}: expected BPE after ByteLevel, or tokenizer.model")
    return PRE[steps]


def byte_level(tokenizer: Mapping[str, Any]) -> list[tuple[bytes, int, float]]:
    """(text, type, 0) by id; a special token is never read from a user's text, so its type matters."""
    texts = {number: text for text, number in tokenizer["model"]["vocab"].items()}
    kinds: dict[int, int] = {}
    for added in tokenizer.get("added_tokens", []):
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    return [(texts[number].encode(), kinds.get(number, TokenType.NORMAL), 0.0) for number in range(len(texts))]
