"""The stand-ins for the family are what their docstrings say, as the installed transformers loads them."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.family import (
    CORPUS,
    TOKENIZER_CLASSES,
    VOCAB_SIZE,
    TokenizerKind,
    make_family_checkpoint,
    make_tokenizer,
    sentencepiece_model,
)

KINDS = list(TOKENIZER_CLASSES)
SPACED_KINDS: list[TokenizerKind] = ["legacy-prepend", "sentencepiece"]
"""The kinds that prepend a space even where there is one, as SentencePiece does."""


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[TokenizerKind, Any]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: AutoTokenizer.from_pretrained(make_tokenizer(folder / kind, kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def reference() -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())


@pytest.mark.parametrize(
    ("kind", "loaded_as", "prepend"),
    [
        ("metaspace-first", "LlamaTokenizer", 'Metaspace(replacement="▁", prepend_scheme=first, split=False)'),
        ("llama2", "LlamaTokenizer", 'Metaspace(replacement="▁", prepend_scheme=always, split=False)'),
        ("legacy-prepend", "TokenizersBackend", 'Sequence(normalizers=[Prepend(prepend="▁"), Replace('),
        ("sentencepiece", "TokenizersBackend", 'Metaspace(replacement="▁", prepend_scheme=always, split=False)'),
    ],
)
def test_each_kind_is_loaded_the_way_it_stands_for(
    tokenizers: dict[TokenizerKind, Any], kind: TokenizerKind, loaded_as: str, prepend: str
) -> None:
    tokenizer = tokenizers[kind]
    assert type(tokenizer).__name__ == loaded_as
    assert prepend in f"{tokenizer.backend_tokenizer.normalizer} {tokenizer.backend_tokenizer.pre_tokenizer}"
    assert len(tokenizer) == VOCAB_SIZE
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.encode("你好")[0] == 1, "BOS comes first by default"
    assert tokenizer.chat_template is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_encodes_as_sentencepiece_does(
    tokenizers: dict[TokenizerKind, Any], reference: sentencepiece.SentencePieceProcessor, kind: TokenizerKind
) -> None:
    lines = CORPUS.read_text(encoding="utf-8").split("\n")
    if kind not in SPACED_KINDS:
        lines = [line for line in lines if not line.startswith(" ")]
    assert [tokenizers[kind].encode(line) for line in lines] == [[1, *reference.encode(line)] for line in lines]


def test_the_kinds_differ_in_where_they_prepend_a_space(tokenizers: dict[TokenizerKind, Any]) -> None:
    """A leading space, and a space after `</s>`: where a prompt built as text and one built of ids part ways."""

    def pieces(kind: TokenizerKind, text: str) -> list[str]:
        tokenizer = tokenizers[kind]
        return list(tokenizer.convert_ids_to_tokens(tokenizer.encode(text, add_special_tokens=False)))

    leading = {kind: pieces(kind, " 你好") for kind in KINDS}
    assert leading["metaspace-first"] == leading["llama2"] == ["▁你好"]
    assert leading["legacy-prepend"] == leading["sentencepiece"]
    assert leading["sentencepiece"][0] == "▁▁"
    after = {kind: pieces(kind, "</s>x")[1:] for kind in KINDS}
    assert after["metaspace-first"] == ["x"]
    assert after["llama2"] == after["legacy-prepend"] == after["sentencepiece"] == ["▁x"]


UNSEEN = ["🦜", "𠮷野家", "ꙮ", "\x00\x1b[0m", "a\r\n\tb", "e\u0301", "שלום 🇫🇷", "<0x0A>", "<unused20000>"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", UNSEEN)
def test_unseen_text_survives_through_bytes(
    tokenizers: dict[TokenizerKind, Any], kind: TokenizerKind, text: str
) -> None:
    ids = tokenizers[kind].encode(text, add_special_tokens=False)
    assert 0 not in ids
    assert max(ids) < 15_000, "padding pieces stay unused"
    assert tokenizers[kind].decode(ids) == text


def test_the_corpus_itself_needs_bytes(reference: sentencepiece.SentencePieceProcessor) -> None:
    ids = reference.encode(CORPUS.read_text(encoding="utf-8"))
    assert any(reference.is_byte(token) for token in ids)
    assert sum(reference.is_byte(token) for token in ids) < len(ids) / 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_token_in_text_becomes_control(tokenizers: dict[TokenizerKind, Any], kind: TokenizerKind) -> None:
    """The hazard the chat templates are built against is there in every kind."""
    assert tokenizers[kind].encode("a</s>", add_special_tokens=False)[-1] == 2


def test_the_scaled_down_6b(family_checkpoint: Path) -> None:
    import torch

    config = json.loads((family_checkpoint / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["num_hidden_layers"], config["vocab_size"], config["max_position_embeddings"]) == (30, 39_438, 2048)
    assert config["num_key_value_heads"] == config["num_attention_heads"]
    assert not (family_checkpoint / "chat_template.jinja").exists()
    model = AutoModelForCausalLM.from_pretrained(family_checkpoint)
    assert model.dtype == torch.float16
    ids = AutoTokenizer.from_pretrained(family_checkpoint)(" Human: 你好 Assistant:", return_tensors="pt").input_ids
    logits = model.float()(ids).logits
    assert logits.shape == (1, ids.shape[1], 39_438)
    assert torch.isfinite(logits).all()


def test_the_weights_follow_the_seed(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folders = {name: tmp_path / name for name in ("first", "again", "other")}
    for name, folder in folders.items():
        make_family_checkpoint(folder, seed=name == "other", layers=1)
    first, again, other = (load_file(folder / "model.safetensors")["lm_head.weight"] for folder in folders.values())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
