"""What the launcher tells the guard of the model behind it, for /status and the page. Facts, not settings.

The guard knows nothing of the engine. Where nobody tells it (another app, a test), these are unknown and left out.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from serving.errors import ConfigError

VARIABLE = "XUANYUAN_SERVED"


@dataclass(frozen=True)
class Served:
    """`precision`: how the weights are stored, such as "bfloat16" or "gptq". `chat`: it was trained on conversations.

    `sampling`: what an answer gets whose request names nothing, in vLLM's words, and as `max_tokens` what the family's
    examples ask for. `control_tokens`: texts of the tokens that are no ordinary text, such as "</s>".
    """

    precision: str = ""
    chat: bool = True
    sampling: Mapping[str, float] = field(default_factory=dict)
    control_tokens: tuple[str, ...] = ()

    def to_environ(self) -> dict[str, str]:
        """The variable that gives this again."""
        return {VARIABLE: json.dumps(asdict(self), separators=(",", ":"))}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Served":
        """What the launcher left in the environment. Raises ConfigError if that is no such thing."""
        text = environ.get(VARIABLE)
        if not text:
            return cls()
        names = {item.name for item in fields(cls)}
        try:
            found = json.loads(text)
            known = {name: value for name, value in found.items() if name in names}
        except (ValueError, AttributeError):
            raise ConfigError(f"{VARIABLE}={text!r}: expected an object as JSON; the launcher sets it") from None
        return cls(**{**known, "control_tokens": tuple(known.get("control_tokens", ()))})
