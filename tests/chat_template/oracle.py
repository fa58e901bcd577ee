"""The family's reference way, written down again: it shares no code with the renderer.

The rule is FastChat's ADD_COLON_TWO, as the family's reference code has it; the ids come from the tokenizer called with
its defaults on the whole string, or from SentencePiece itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GOLDEN = json.loads(Path(__file__).with_name("golden_prompts.json").read_text(encoding="utf-8"))["cases"]
SYSTEMS = {"6b": "", "13b": "", "70b": GOLDEN[0]["70b"].split("\n")[0] + "\n"}
TEMPLATES = tuple(SYSTEMS)

Turn = tuple[str, str]
"""Role and text."""


def reference_string(turns: Sequence[Turn], template: str, *, cue: bool = True) -> str:
    """The prompt of alternating turns, the user's first. `cue`: an assistant's turn with no text yet comes last."""
    seps = [" ", "</s>"]
    roles = {"user": "Human", "assistant": "Assistant"}
    prompt = SYSTEMS[template] + seps[0]
    for number, (role, text) in enumerate(turns):
        prompt += roles[role] + ": " + text.strip() + seps[number % 2]
    if cue:
        prompt += roles["assistant"] + ":"
    return prompt.removeprefix(" ") if template == "13b" else prompt


def reference_ids(tokenizer: Any, string: str) -> list[int]:
    """The tokenizer called with its defaults."""
    return list(tokenizer(string)["input_ids"])


def sentencepiece_ids(processor: Any, string: str) -> list[int]:
    """SentencePiece asked run by run, with the control tokens put between the runs by hand."""
    ids = [processor.bos_id()]
    for number, run in enumerate(string.split("</s>")):
        ids += ([processor.eos_id()] if number else []) + (processor.encode(run) if run else [])
    return ids


def messages_of(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns as a request's messages."""
    return [{"role": role, "content": text} for role, text in turns]
