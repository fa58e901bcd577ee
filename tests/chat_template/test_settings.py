"""The settings' way to the renderer and back."""

import json
from typing import Any

import pytest

from chat_template.settings import ChatSettings

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "xuanyuan_chat: no template given: expected one of 6b, 13b, 70b, none"),
    ({"template": "7b"}, "template='7b': expected one of 6b, 13b, 70b, none"),
    ({"template": "6b", "turn_forgery": "ignore"}, "turn_forgery='ignore': expected one of log, reject, neutralize"),
    ({"template": "6b", "system_role": None}, "system_role=None: expected one of fold, reject"),
    ({"template": "6b", "truncate_history": True}, "truncate_history=True: expected one of never, oldest"),
    ({"template": "6b", "chat_checkpoint": 7}, "chat_checkpoint=7: expected a name or nothing"),
    (
        {"template": "6b", "truncate": "oldest"},
        "xuanyuan_chat: unknown key 'truncate': expected template, turn_forgery",
    ),
]


@pytest.mark.parametrize(("values", "reason"), REFUSED)
def test_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ChatSettings.from_dict(values)


def test_to_json_and_back() -> None:
    settings = ChatSettings("none", "neutralize", "reject", "oldest", "XuanYuan-6B-Chat")
    assert ChatSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert ChatSettings.from_dict({"template": "6b"}) == ChatSettings("6b", "log", "fold", "never", None)


def test_engine_flags() -> None:
    settings = ChatSettings("6b")
    assert settings.engine_flags() == [
        ("--tokenizer-mode", "xuanyuan"),
        ("--additional-config", json.dumps({"xuanyuan_chat": settings.to_dict()})),
        ("--middleware", "chat_template.notices.NoticeHeaders"),
        ("--reasoning-parser", "xuanyuan"),
        ("--structured-outputs-config", '{"enable_in_reasoning": true}'),
    ]
    assert len(ChatSettings("none").engine_flags()) == 3
