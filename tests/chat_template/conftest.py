"""Tokenizers of every kind the family ships, each made once a session."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chat_template.encode import ConversationEncoder
from chat_template.settings import ChatSettings
from tests.family import TOKENIZER_CLASSES, TokenizerKind, make_tokenizer, sentencepiece_model


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from a kind of tokenizer to the folder of one."""
    return cache(lambda kind: make_tokenizer(tmp_path_factory.mktemp(kind), kind))


@pytest.fixture(scope="session", params=TOKENIZER_CLASSES)
def kind(request: pytest.FixtureRequest) -> TokenizerKind:
    """Each kind of tokenizer in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def load(tokenizer_folder: Any) -> Any:
    """A function from a kind of tokenizer to one, as the reference code loads it."""
    from transformers import AutoTokenizer

    return cache(lambda kind: AutoTokenizer.from_pretrained(Path(tokenizer_folder(kind))))


@pytest.fixture(scope="session")
def tokenizer(load: Any, kind: TokenizerKind) -> Any:
    """A tokenizer of each kind in turn."""
    return load(kind)


@pytest.fixture(scope="session")
def encoder_of(load: Any) -> Any:
    """A function from a kind of tokenizer and a template to the renderer for them."""
    return cache(lambda kind, template: ConversationEncoder(load(kind), ChatSettings(template)))


@pytest.fixture(scope="session")
def sentencepiece_processor() -> Any:
    """SentencePiece itself, with the vocabulary that all the tokenizers share."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
