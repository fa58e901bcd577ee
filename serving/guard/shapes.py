"""What the engine would answer with a 500 though the request is at fault. Pure: a parsed body in, a refusal out.

Each rule is here because fuzzing found the case, on the real server or on its parsers alone; all else is left to
the engine's own validation.
"""

from typing import Any

from serving.guard.refusal import Refusal

# Looked into before their type is checked.
OBJECTS = ("structured_outputs",)
# Items of /v1/responses that become messages; the engine fails on others that OpenAI knows (its own tools' calls).
ITEMS = ("message", "function_call", "function_call_output", "reasoning")
CALL = ("call_id", "name", "arguments")
# Each with what it may be instead of a list.
REASONING: dict[str, Any] = {"summary": [], "content": None}
# Parts of a chat message that are no text: an object of texts, or where an address will do, a text.
MEDIA = ("image_url", "audio_url", "video_url")


def check(path: str, document: dict[str, Any]) -> None:
    """Raises Refusal that names the field."""
    for name in OBJECTS:
        if not isinstance(document.get(name, {}), dict | None):
            raise misshapen(name, "an object")
    if path == "/v1/responses" and isinstance(document.get("input"), list):
        for place, item in enumerate(document["input"]):
            check_item(f"input[{place}]", item)
    if isinstance(document.get("messages"), list):
        for place, message in enumerate(document["messages"]):
            content = message.get("content") if isinstance(message, dict) else None
            check_parts(f"messages[{place}].content", content)


def check_parts(name: str, content: Any) -> None:
    """The content of a chat message. Raises Refusal."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            check_part(name, part)


def check_part(name: str, part: dict[str, Any]) -> None:
    """One part of it; a tool's result, on /v1/messages, has parts of its own. Raises Refusal."""
    check_parts(f"{name}.content", part.get("content"))
    if not isinstance(part.get("source", {}), dict | None):
        raise misshapen(f"{name}.source", "an object")
    for medium in MEDIA:
        if not isinstance(part.get(medium, ""), str | None) and not is_object_of_texts(part[medium]):
            raise misshapen(f"{name}.{medium}", "an address, or an object of texts")
    if part.get("input_audio") is not None and not is_object_of_texts(part["input_audio"]):
        raise misshapen(f"{name}.input_audio", "an object of texts")


def is_object_of_texts(value: Any) -> bool:
    """Whether a value is an object in which all values are texts or null."""
    return isinstance(value, dict) and all(isinstance(text, str | None) for text in value.values())


def check_item(name: str, item: Any) -> None:
    """One item of a conversation on /v1/responses. Raises Refusal."""
    if not isinstance(item, dict):
        raise misshapen(name, "an object")
    kind = item.get("type", "message")
    if kind not in ITEMS:
        raise misshapen(f"{name}.type", " or ".join(ITEMS))
    for field in CALL if kind == "function_call" else ():
        if not isinstance(item.get(field), str):
            raise misshapen(f"{name}.{field}", "a text")
    for field, absent in REASONING.items() if kind == "reasoning" else ():
        value = item.get(field, absent)
        if value not in ([], absent) and not is_text_parts(value):
            raise misshapen(f"{name}.{field}", "a list of parts with a text each")
    if kind != "message":
        return
    if not isinstance(item.get("role"), str):
        raise misshapen(f"{name}.role", "the name of a role")
    content = item.get("content")
    if not isinstance(content, str) and not is_text_parts(content):
        raise misshapen(f"{name}.content", "a text, or a list of parts with a text each")


def is_text_parts(content: Any) -> bool:
    """Whether a message's content is a list of one or more texts."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content)
    )


def misshapen(param: str, expected: str) -> Refusal:
    """A refusal for a field of the wrong shape."""
    return Refusal(400, "invalid_value", f"{param}: expected {expected}.", param=param)
