"""Turn starts typed as plain text. Their ids can equal the template's own, so they are found in the text instead."""

import re

TURN_START = re.compile(r"(?:(?<!\S)|(?<=</s>))(Human|Assistant):")
"""A role and its colon where a turn could start: at the text's start, after whitespace, or after a typed `</s>`."""


def has_turn_start(text: str) -> bool:
    """Whether `text` holds what the template writes at the start of a turn, at a place where a turn could start."""
    # The plain search spares long harmless texts the slower pattern.
    return ("Human:" in text or "Assistant:" in text) and TURN_START.search(text) is not None


def neutralize(text: str) -> str:
    """`text` with one space (U+0020) put before the colon of each turn start, and nothing else changed.

    A space and not a full-width colon: tokenizers that normalize to NFKC would turn that back into the colon.
    """
    return TURN_START.sub(r"\1 :", text)
