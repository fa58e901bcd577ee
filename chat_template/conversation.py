"""From a request's messages to a conversation that the family's prompt can express: the rules, in one place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

from chat_template.errors import ConversationError, ForgedTurnError
from chat_template.forgery import has_turn_start, neutralize
from chat_template.settings import ChatSettings

Role = Literal["system", "user", "assistant"]

ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NO_TOOLS = "the family's prompt has no place for tools"
REFUSED_ROLES: Mapping[str, str] = {"tool": NO_TOOLS, "function": NO_TOOLS}
TEXT_PARTS: Mapping[str, str] = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Types of content parts that are text, with the key that holds it (OpenAI's chat and responses APIs)."""


@dataclass(frozen=True)
class Message:
    """One message as sent, its text trimmed. `index` is its place in the request."""

    index: int
    role: Role
    text: str


@dataclass(frozen=True)
class Turn:
    """What one side said, in one piece."""

    role: Role
    text: str


@dataclass(frozen=True)
class Conversation:
    """A system text ("" for none) and turns that alternate, the user's first.

    `forged` holds the indices of the messages in which a turn start was typed as text.
    """

    system: str
    turns: tuple[Turn, ...]
    forged: tuple[int, ...] = ()

    @property
    def droppable_pairs(self) -> int:
        """How many of the oldest question-and-answer pairs can go while the last question stays."""
        return (len(self.turns) - 1) // 2

    def without_oldest(self, pairs: int) -> "Conversation":
        """The conversation without its `pairs` oldest question-and-answer pairs. The system text stays."""
        return replace(self, turns=self.turns[2 * pairs :])


def read_conversation(messages: Sequence[Mapping[str, Any]], settings: ChatSettings) -> Conversation:
    """The conversation in `messages` (OpenAI's form). Raises ConversationError for what the prompt cannot express."""
    read = [_read_message(index, message) for index, message in enumerate(messages)]
    forged = tuple(message.index for message in read if message.role != "system" and has_turn_start(message.text))
    if forged and settings.turn_forgery == "reject":
        raise ForgedTurnError("the start of a turn (Human: or Assistant:) is typed as text", forged[0])
    if settings.turn_forgery == "neutralize":
        read = [replace(m, text=neutralize(m.text)) if m.index in forged else m for m in read]
    system, turns = _split(read, settings)
    return Conversation(system, turns, forged)


def _split(messages: Iterable[Message], settings: ChatSettings) -> tuple[str, tuple[Turn, ...]]:
    """System text and turns: consecutive messages of one role joined by a newline, then checked for their order."""
    groups = [(role, list(group)) for role, group in groupby(messages, key=lambda message: message.role)]
    system = ""
    if groups and groups[0][0] == "system":
        if settings.system_role == "reject":
            raise ConversationError("system messages are not accepted here", 0)
        system = _joined(groups.pop(0)[1])
    if not groups:
        raise ConversationError("messages: expected at least one user message")
    first = groups[0][1][0]
    if first.role == "assistant":
        raise ConversationError("the first message must be the user's, not the assistant's", first.index)
    for role, group in groups:
        if role == "system":
            raise ConversationError("a system message must come before all others", group[0].index)
    return system, tuple(Turn(role, _joined(group)) for role, group in groups)


def _joined(group: Iterable[Message]) -> str:
    return "\n".join(message.text for message in group if message.text)


def _read_message(index: int, message: Mapping[str, Any]) -> Message:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        reason = REFUSED_ROLES.get(str(role), f"expected one of {', '.join(ROLES)}")
        raise ConversationError(f"role {role!r}: {reason}", index)
    if message.get("tool_calls") or message.get("function_call"):
        raise ConversationError(f"tool calls: {NO_TOOLS}", index)
    text = _text_of(message.get("content"), index).strip()
    if not text and role == "user":
        raise ConversationError("the user's text is empty", index)
    return Message(index, ROLES[role], text)


def _text_of(content: Any, index: int) -> str:
    """The text of a message's content: a string, or text parts joined with nothing between them."""
    if content is None:
        return ""
    if isinstance(content, str):
        text = content
    elif isinstance(content, Iterable) and not isinstance(content, Mapping):
        text = "".join(_text_of_part(part, index) for part in content)
    else:
        raise ConversationError(f"content of type {type(content).__name__}: expected text or a list of parts", index)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ConversationError(f"character {error.start} of the content is half a surrogate pair", index) from None
    return text


def _text_of_part(part: Any, index: int) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if not isinstance(kind, str) or kind not in TEXT_PARTS:
        raise ConversationError(f"content part of type {kind!r}: this model reads text only", index)
    text = part.get(TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise ConversationError(f"content part of type {kind!r}: its text is missing", index)
    return text
