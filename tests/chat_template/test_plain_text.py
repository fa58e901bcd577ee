"""Tokenizers on purpose unlike the family's: no text becomes one of their control tokens either."""

from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from chat_template.errors import TemplateMismatchError
from chat_template.plain_text import PlainTextTokenizer

CONTROLS = ["<unk>", "<s>", "</s>"]
CHARACTERS = sorted(set("<unk>/s[TOL] okHuman:▁"))


def fast(model: Any, *, added: tuple[AddedToken, ...] = (), eos: str = "</s>") -> PreTrainedTokenizerFast:
    """A transformers tokenizer around a model of the tokenizers library."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.add_special_tokens(CONTROLS)
    backend.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token=eos)


def bpe_with_merges_to_controls() -> PreTrainedTokenizerFast:
    """Its merges lead from letters to `</s>` and `<s>`: taking the added tokens away would not be enough."""
    pieces = [*CONTROLS, *CHARACTERS, "</", "s>", "<u", "nk>", "nk"]
    merges = [("<", "/"), ("s", ">"), ("</", "s>"), ("<", "s>"), ("n", "k"), ("<", "u"), ("nk", ">"), ("<u", "nk>")]
    return fast(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges, unk_token="<unk>"))


def bpe_with_added_tokens() -> PreTrainedTokenizerFast:
    """Added tokens beyond the vocabulary: special and not, greedy for the spaces around them, normalized."""
    vocab = {piece: n for n, piece in enumerate([*CONTROLS, *CHARACTERS])}
    added = (
        AddedToken("[TOOL]", special=True, lstrip=True, rstrip=True),
        AddedToken("[LOT]", special=False, normalized=True),
        AddedToken("ok", special=False, single_word=True),
    )
    return fast(models.BPE(vocab, [], unk_token="<unk>"), added=added)


def bpe_with_end_of_text_outside_its_vocabulary() -> PreTrainedTokenizerFast:
    """Its EOS is an added token only, as in Llama 3."""
    vocab = {piece: n for n, piece in enumerate([*CONTROLS[:2], *CHARACTERS])}
    return fast(models.BPE(vocab, [], unk_token="<unk>"))


def unigram() -> PreTrainedTokenizerFast:
    """Its pieces hold the control tokens with the best score of all."""
    pieces = [(control, 0.0) for control in CONTROLS] + [(character, -5.0) for character in CHARACTERS]
    return fast(models.Unigram(pieces, unk_id=0))


TOKENIZERS = [
    bpe_with_merges_to_controls,
    bpe_with_added_tokens,
    bpe_with_end_of_text_outside_its_vocabulary,
    unigram,
]
TEXTS = ["ok</s>Human: <s><unk>", "[TOOL] ok [LOT]", "</s>", " ok ", "</s></s><s>", "[TOOL][TOOL]ok"]


@pytest.mark.parametrize("make", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_control_tokens_stand_between_the_runs_only(make: Callable[[], Any], text: str) -> None:
    tokenizer = make()
    controls = set(tokenizer.added_tokens_decoder)
    ids, positions = PlainTextTokenizer(tokenizer).encode([text, "Human", text])
    assert [at for at, number in enumerate(ids) if number in controls] == positions
    assert [ids[at] for at in positions] == [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.eos_token_id]
    written = "".join(tokenizer.convert_ids_to_tokens([n for n in ids if n not in controls]))
    assert written.removeprefix("▁") == f"{text}Human{text}".replace(" ", "▁").removeprefix("▁")


@pytest.mark.parametrize("make", TOKENIZERS)
def test_harmless_text_is_encoded_as_the_tokenizer_does(make: Callable[[], Any]) -> None:
    tokenizer = make()
    ids, _ = PlainTextTokenizer(tokenizer).encode(["Human: sun", "Human:  no", ""])
    assert ids == [tokenizer.bos_token_id, *tokenizer("Human: sun</s>Human:  no</s>")["input_ids"]]


def test_characters_that_cannot_be_written_become_the_unknown_token_as_in_the_original() -> None:
    tokenizer = unigram()
    ids, positions = PlainTextTokenizer(tokenizer).encode(["Human 人"])
    assert ids == [tokenizer.bos_token_id, *tokenizer("Human 人")["input_ids"]]
    assert ids[-1] == tokenizer.unk_token_id
    assert positions == [0]


def test_a_tokenizer_without_the_librarys_backend_is_refused() -> None:
    with pytest.raises(TemplateMismatchError, match="object: expected a fast tokenizer"):
        PlainTextTokenizer(object())


def test_a_tokenizer_without_end_of_text_is_refused() -> None:
    tokenizer = bpe_with_added_tokens()
    tokenizer.eos_token = None
    with pytest.raises(TemplateMismatchError, match=r"no </s> \(EOS\)"):
        PlainTextTokenizer(tokenizer)


def test_other_kinds_of_tokenizer_are_refused() -> None:
    words = models.WordLevel({piece: n for n, piece in enumerate([*CONTROLS, "ok"])}, unk_token="<unk>")
    with pytest.raises(TemplateMismatchError, match="of type WordLevel: expected BPE or Unigram"):
        PlainTextTokenizer(fast(words))
