"""Small stand-ins for the XuanYuan family: tokenizers of every kind its checkpoints come with, and a scaled-down 6B.

How `AutoTokenizer` of transformers 5.24 loads a folder. It ignores `use_fast`: the backend is always the `tokenizers`
library. Read in its `models/auto/tokenization_auto.py`, `tokenization_utils_tokenizers.py` and
`models/llama/tokenization_llama.py`, and checked by `test_family.py`:

- `tokenizer_class` is `LlamaTokenizer` or `LlamaTokenizerFast`: class `LlamaTokenizer`. It takes vocabulary, merges and
  post-processor from tokenizer.json, or makes them from tokenizer.model where there is none, and builds the rest
  itself: whatever normalizer and pre-tokenizer tokenizer.json has is dropped for Metaspace, with `prepend_scheme`
  "always" if the config says `legacy: true`, else "first". Metaspace adds no space before text that starts with one.
- `tokenizer_class` is `PreTrainedTokenizerFast` or `TokenizersBackend`: tokenizer.json as it is.
- No `tokenizer_class`: the generic class, since `llama` is not in the table from model types to tokenizers. With only a
  tokenizer.model it is built from the SentencePiece settings, with a space after every special token, also before
  text that starts with one. It needs a config.json that says `model_type`.
"""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

CORPUS = Path(__file__).parent / "data" / "corpus.txt"
VOCAB_SIZE = 39_438
"""XuanYuan-6B's vocabulary size (its model card)."""

TokenizerKind = Literal["metaspace-first", "legacy-prepend", "llama2", "sentencepiece"]
TOKENIZER_CLASSES: dict[TokenizerKind, str | None] = {
    "metaspace-first": "LlamaTokenizerFast",
    "legacy-prepend": "PreTrainedTokenizerFast",
    "llama2": "LlamaTokenizer",
    "sentencepiece": None,
}


@cache
def sentencepiece_model(vocab_size: int = VOCAB_SIZE) -> bytes:
    """A SentencePiece BPE model with byte fallback, with LLaMA's settings: `<unk>` 0, `<s>` 1, `</s>` 2, bytes from 3.

    The corpus yields about 11,400 pieces. The ids from there up to `vocab_size` are unused pieces: no text becomes one.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        input=str(CORPUS),
        model_writer=written,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=0.995,  # the rarest characters stay out, so that the corpus itself needs bytes
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    lowest = min(piece.score for piece in model.pieces)
    for number in range(len(model.pieces), vocab_size):
        # Names of one length: none is the beginning of another, so no merge leads to them.
        model.pieces.add(piece=f"<unused{number:05d}>", score=lowest, type=model.SentencePiece.UNUSED)
    model.trainer_spec.vocab_size = vocab_size
    return bytes(model.SerializeToString())


def make_tokenizer(folder: Path, kind: TokenizerKind = "metaspace-first", *, vocab_size: int = VOCAB_SIZE) -> Path:
    """Write a tokenizer into `folder`, and a minimal config.json if it has none. Returns `folder`.

    All kinds share one vocabulary and put `<s>` first. They differ in files and class (see the top of this file), and
    so in where a space is prepended:

    - "metaspace-first": a fast tokenizer.json; a space before the text unless it has one, none after special tokens.
    - "legacy-prepend": the old conversion (normalizers Prepend and Replace, no pre-tokenizer), the generic fast class;
      a space before the text and after every special token, always.
    - "llama2": as LLaMA-2's slow one, tokenizer.model alone and `legacy: true`; a space before the text and after
      every special token, unless the text there has one.
    - "sentencepiece": tokenizer.model alone and no class named; spaces as in "legacy-prepend".
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(vocab_size))
    config: dict[str, Any] = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    if kind in ("metaspace-first", "llama2"):
        config["legacy"] = kind == "llama2"
    if TOKENIZER_CLASSES[kind]:
        config["tokenizer_class"] = TOKENIZER_CLASSES[kind]
    if kind in ("metaspace-first", "legacy-prepend"):
        _write_fast_tokenizer(folder, legacy=kind == "legacy-prepend")
    _write_json(folder / "tokenizer_config.json", config)
    if not (folder / "config.json").exists():
        _write_json(folder / "config.json", {"model_type": "llama"})
    return folder


def make_family_checkpoint(folder: Path, *, seed: int = 0, vocab_size: int = VOCAB_SIZE, layers: int = 30) -> Path:
    """Write XuanYuan-6B scaled down into `folder`: random float16 weights and the "metaspace-first" tokenizer.

    As in the original: 30 layers, as many KV heads as heads, vocabulary 39,438, untied output layer, 2,048 positions,
    no chat template. Smaller: 4 heads of 32 (32 of 128 there). Not stated by the family's card, so chosen here: the
    intermediate size (2.6875 x hidden, LLaMA-7B's ratio) and the rope base (the library's default).
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    make_tokenizer(folder, vocab_size=vocab_size)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=2048,
        dtype="float16",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(torch.float16)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2)
    model.save_pretrained(folder)
    return folder


def _write_fast_tokenizer(folder: Path, *, legacy: bool) -> None:
    """Convert the folder's tokenizer.model to a tokenizer.json, with Metaspace "first" or with the old normalizers."""
    from tokenizers import normalizers
    from transformers import LlamaTokenizer

    backend = LlamaTokenizer.from_pretrained(folder, legacy=False, add_bos_token=True).backend_tokenizer
    if legacy:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = None
    backend.save(str(folder / "tokenizer.json"))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
