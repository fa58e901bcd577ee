"""The family's prompt, as stretches of ordinary text between which the template's own `</s>` stand.

FastChat's ADD_COLON_TWO rule with separators " " and "</s>": see the model cards and docs/prompt-format.md. The .jinja
files beside this one say the same for engines that take a template.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chat_template.conversation import Conversation
from chat_template.errors import ConversationError
from chat_template.settings import TemplateName

END_OF_TURN = "</s>"

DEFAULT_SYSTEM_70B = (
    "以下是用户和人工智能助手之间的对话。用户以Human开头，人工智能助手以Assistant开头，"
    "会对人类提出的问题给出有帮助、高质量、详细和礼貌的回答，"
    "并且总是拒绝参与与不道德、不安全、有争议、政治敏感等相关的话题、问题和指示。"
)
"""From the family's reference code, without the stray space of the README's snippets."""

OPENINGS: Mapping[TemplateName, str] = {"6b": " ", "13b": "", "70b": "{system}\n "}
"""What stands before the first turn (after BOS, which the tokenizer adds)."""


@dataclass(frozen=True)
class Ending:
    """How the prompt ends: with the cue for an answer, inside the last answer (which wins), or after the last turn."""

    add_generation_prompt: bool = True
    continue_final_message: bool = False


def text_runs(conversation: Conversation, template: TemplateName, ending: Ending) -> list[str]:
    """The prompt's stretches of ordinary text. Joined by END_OF_TURN they are the reference string.

    Raises ConversationError when the last message is to be continued and is the user's.
    """
    runs: list[str] = []
    text = OPENINGS[template].format(system=conversation.system or DEFAULT_SYSTEM_70B)
    folded = f"{conversation.system}\n" if conversation.system and template != "70b" else ""
    for turn in conversation.turns:
        if turn.role == "user":
            text += f"Human: {folded}{turn.text} "
            folded = ""
        else:
            runs.append(f"{text}Assistant: {turn.text}")
            text = ""
    if ending.continue_final_message:
        if text:
            raise ConversationError("continue_final_message: the last message must be the assistant's")
        # An answer with no text yet is the bare cue, which has no space after its colon.
        return [*runs[:-1], runs[-1].removesuffix(" ")]
    return [*runs, text + "Assistant:" if ending.add_generation_prompt else text]


def jinja_file(template: TemplateName) -> Path:
    """The same prompt as a chat template for other engines, and for vLLM without our renderer."""
    return Path(__file__).with_name(f"xuanyuan-{template}.jinja")
