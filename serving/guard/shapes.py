"""What the engine would answer with a 500 though the request is at fault. Pure: a parsed body in, a refusal out.

Each rule is here because fuzzing the real server found the case (tests/guard/test_engine_fuzz.py); all else is left to
the engine's own validation.
"""

from typing import Any

from serving.guard.refusal import Refusal

# Looked into before their type is checked.
OBJECTS = ("structured_outputs",)
# Items of /v1/responses that become messages; the engine fails on others that OpenAI knows (its own tools' calls).
ITEMS = ("message", "function_call", "function_call_output", "reasoning")


def check(path: str, document: dict[str, Any]) -> None:
    """Raises Refusal that names the field."""
    for name in OBJECTS:
        if not isinstance(document.get(name, {}), dict | None):
            raise misshapen(name, "an object")
    if path == "/v1/responses" and isinstance(document.get("input"), list):
        for place, item in enumerate(document["input"]):
            check_item(f"input[{place}]", item)


def check_item(name: str, item: Any) -> None:
    """One item of a conversation on /v1/responses. Raises Refusal."""
    if not isinstance(item, dict):
        raise misshapen(name, "an object")
    kind = item.get("type", "message")
    if kind not in ITEMS:
        raise misshapen(f"{name}.type", " or ".join(ITEMS))
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
