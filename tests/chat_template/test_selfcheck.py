"""The check before a server starts: what it accepts, what it shows when it refuses, how long it takes."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from chat_template.encode import ConversationEncoder
from chat_template.errors import TemplateMismatchError
from chat_template.selfcheck import GOLDEN, check_encoder, check_folder, first_difference
from chat_template.settings import ChatSettings
from tests.chat_template.oracle import TEMPLATES, reference_string
from tests.family import TokenizerKind


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_golden_strings_follow_the_reference_rule(template: str) -> None:
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        turns = [(message["role"], message["content"]) for message in case["messages"]]
        assert case[template] == reference_string(turns, template)


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_kind_of_tokenizer_passes(tokenizer: Any, encoder_of: Any, kind: TokenizerKind, template: str) -> None:
    check_encoder(encoder_of(kind, template), tokenizer)


def test_a_folder_passes(tokenizer_folder: Any) -> None:
    check_folder(tokenizer_folder("metaspace-first"), ChatSettings("6b"))


def test_a_folder_without_a_template_is_not_looked_at(tmp_path: Path) -> None:
    check_folder(tmp_path, ChatSettings("none"))


def test_a_tokenizer_that_adds_no_bos_is_shown_at_its_first_token(tokenizer_folder: Any, tmp_path: Path) -> None:
    folder = tokenizer_folder("llama2")
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"add_bos_token": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    for name in ("tokenizer.model", "config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(TemplateMismatchError) as refused:
        check_folder(tmp_path, ChatSettings("6b"))
    assert str(refused.value) == (
        "template 6b, golden conversation 1: token 0: the reference has 344 '▁Human', the renderer 1 '<s>'"
    )


def test_a_tokenizer_whose_end_of_text_is_another_is_shown(tokenizer_folder: Any, tmp_path: Path) -> None:
    folder = tokenizer_folder("legacy-prepend")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (tmp_path / name).write_text((folder / name).read_text().replace("</s>", "<end>"))
    with pytest.raises(TemplateMismatchError, match=r"golden conversation 2: token \d+: .* the renderer 2 '<end>'"):
        check_folder(tmp_path, ChatSettings("13b"))


def test_it_is_quick(load: Any) -> None:
    tokenizer = load("metaspace-first")
    encoder = ConversationEncoder(tokenizer, ChatSettings("70b"))
    started = time.perf_counter()
    check_encoder(encoder, tokenizer)
    assert time.perf_counter() - started < 0.2


def test_where_two_lists_differ(load: Any) -> None:
    tokenizer = load("metaspace-first")
    assert first_difference(tokenizer, [1, 2], [1, 0]).startswith("token 1: the reference has 2 '</s>', the renderer 0")
    assert first_difference(tokenizer, [1, 2], [1]).endswith("the reference has 2 '</s>', the renderer no more tokens")
    assert first_difference(tokenizer, [1], [1, 2]).endswith("the reference has no more tokens, the renderer 2 '</s>'")
