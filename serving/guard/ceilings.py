"""How much one request may ask of the engine. Pure: a parsed body and the settings in, a refusal or a count out."""

from typing import Any

from serving.guard.refusal import Refusal
from serving.guard.settings import GuardSettings

TOKEN_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
LOGPROB_FIELDS = ("logprobs", "top_logprobs", "prompt_logprobs", "logprob_token_ids")


def check(document: dict[str, Any], settings: GuardSettings) -> int:
    """How many answers the request asks for. Raises Refusal that names the field.

    What has the wrong type altogether is left to the engine's own validation; a number in quotes is one there, so it is
    one here.
    """
    for name in TOKEN_FIELDS:
        if settings.max_tokens and number(document.get(name)) > settings.max_tokens:
            raise too_much(name, f"at most {settings.max_tokens} tokens")
    for name in LOGPROB_FIELDS:
        # A negative number asks for the whole vocabulary at each token.
        if not 0 <= number(document.get(name)) <= settings.max_logprobs:
            raise too_much(name, f"0 to {settings.max_logprobs}")
    prompts = count_prompts(document.get("prompt"))
    for name in ("n", "best_of"):
        if number(document.get(name), 1) * prompts > settings.max_n:
            raise too_much(name if prompts == 1 else "prompt", f"at most {settings.max_n} answers to one request")
    return int(max(1, *(number(document.get(name), 1) for name in ("n", "best_of")))) * prompts


def number(value: Any, default: float = 0) -> float:
    """The number that a value is taken for: itself, one in quotes, a list's length; the default for anything else."""
    if isinstance(value, list):
        return len(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return default
    return value if isinstance(value, int | float) and value == value else default


def count_prompts(prompt: Any) -> int:
    """The prompts in a completion request: a text, a list of token ids, or a list of either."""
    if isinstance(prompt, list) and not all(type(item) is int for item in prompt):
        return len(prompt)
    return 1


def too_much(param: str, expected: str) -> Refusal:
    """A refusal for a field that asks for too much."""
    return Refusal(400, "limit_exceeded", f"{param}: expected {expected}.", param=param)
