"""The template's settings, and how they travel to the renderer: inside vLLM's own `additional_config`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

MODE = "xuanyuan"
"""Under this name the plugin registers its tokenizer mode, renderer and reply parser with vLLM."""
CONFIG_KEY = "xuanyuan_chat"
"""The settings' key in vLLM's `additional_config`."""

TemplateName = Literal["6b", "13b", "70b", "none"]
TurnForgery = Literal["log", "reject", "neutralize"]
SystemRole = Literal["fold", "reject"]
TruncateHistory = Literal["never", "oldest"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "template": get_args(TemplateName),
    "turn_forgery": get_args(TurnForgery),
    "system_role": get_args(SystemRole),
    "truncate_history": get_args(TruncateHistory),
}


@dataclass(frozen=True)
class ChatSettings:
    """How conversations become prompts. docs/prompt-format.md says what each value does.

    - `template`: the family's prompt form; "none" for a completion-only checkpoint, which refuses conversations.
    - `turn_forgery`: what to do with the start of a turn typed as plain text.
    - `system_role`: "fold" takes a system message (13b, 6b: into the first question; 70b: in place of its system text).
    - `truncate_history`: "oldest" drops the oldest turn pairs of a conversation that is longer than the context.
    - `chat_checkpoint`: with "none", the chat checkpoint that the refusal recommends.
    """

    template: TemplateName
    turn_forgery: TurnForgery = "log"
    system_role: SystemRole = "fold"
    truncate_history: TruncateHistory = "never"
    chat_checkpoint: str | None = None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
        if not isinstance(self.chat_checkpoint, str | None):
            raise ValueError(f"chat_checkpoint={self.chat_checkpoint!r}: expected a name or nothing")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values, as `from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ChatSettings":
        """The settings in `values`. Raises ValueError that names the key, the value and what was expected."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"{CONFIG_KEY}: unknown key {name!r}: expected {', '.join(known)}")
        if "template" not in values:
            raise ValueError(f"{CONFIG_KEY}: no template given: expected one of {', '.join(CHOICES['template'])}")
        return cls(**values)

    def engine_flags(self) -> list[tuple[str, str]]:
        """vLLM's own flags, with their values, that put this package to work with these settings."""
        flags = [
            ("--tokenizer-mode", MODE),
            ("--additional-config", json.dumps({CONFIG_KEY: self.to_dict()})),
            ("--middleware", "chat_template.notices.NoticeHeaders"),
        ]
        if self.template != "none":
            flags.append(("--reasoning-parser", MODE))
            # To vLLM the whole answer is in our parser's "reasoning phase": grammars must hold there too.
            flags.append(("--structured-outputs-config", json.dumps({"enable_in_reasoning": True})))
        return flags
