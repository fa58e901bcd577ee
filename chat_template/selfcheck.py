"""Does this template give the family's reference ids with this tokenizer? Asked at start-up, and by the doctor."""

import json
from pathlib import Path
from typing import Any

from chat_template.encode import ConversationEncoder
from chat_template.errors import TemplateMismatchError
from chat_template.settings import ChatSettings

GOLDEN = Path(__file__).with_name("golden.json")
"""Conversations, and for each template the string that the family's reference code makes of them."""


def check_encoder(encoder: ConversationEncoder, tokenizer: Any) -> None:
    """Compare `encoder` with the reference way: `tokenizer` called with its defaults on the reference string.

    Raises TemplateMismatchError that shows the first token that differs, on both sides.
    """
    template = encoder.settings.template
    for number, case in enumerate(json.loads(GOLDEN.read_text(encoding="utf-8")), start=1):
        expected = tokenizer(case[template])["input_ids"]
        got = encoder.encode_messages(case["messages"]).token_ids
        if got != expected:
            difference = first_difference(tokenizer, expected, got)
            raise TemplateMismatchError(f"template {template}, golden conversation {number}: {difference}")


def check_folder(folder: Path, settings: ChatSettings) -> None:
    """Check the tokenizer in `folder` with `settings`. Does nothing for "none". Raises TemplateMismatchError."""
    from transformers import AutoTokenizer

    if settings.template != "none":
        tokenizer = AutoTokenizer.from_pretrained(folder)
        check_encoder(ConversationEncoder(tokenizer, settings), tokenizer)


def first_difference(tokenizer: Any, expected: list[int], got: list[int]) -> str:
    """A line that shows the first place where two lists of token ids differ."""
    at = next((i for i, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), len(expected))
    at = min(at, len(expected), len(got))
    return f"token {at}: the reference has {_token(tokenizer, expected, at)}, the renderer {_token(tokenizer, got, at)}"


def _token(tokenizer: Any, ids: list[int], at: int) -> str:
    return f"{ids[at]} {tokenizer.convert_ids_to_tokens(ids[at])!r}" if at < len(ids) else "no more tokens"
