"""The rules for conversations, as in the table of docs/prompt-format.md."""

from typing import Any

import pytest

from chat_template.conversation import read_conversation
from chat_template.errors import ConversationError
from chat_template.layout import END_OF_TURN, Ending, text_runs
from chat_template.settings import ChatSettings, TemplateName
from tests.chat_template.oracle import SYSTEMS


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def system(content: Any, role: str = "system") -> dict[str, Any]:
    return {"role": role, "content": content}


def part(text: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "text": text}


CUE = Ending()
NO_CUE = Ending(add_generation_prompt=False)
CONTINUE = Ending(continue_final_message=True)
HI = " Human: hi Assistant:"

ACCEPTED = [
    ("one question", [user("hi")], CUE, HI),
    ("user text trimmed", [user("\u3000 hi\t\n")], CUE, HI),
    (
        "answers trimmed",
        [user("a"), assistant(" b\n"), user("c")],
        CUE,
        " Human: a Assistant: b</s>Human: c Assistant:",
    ),
    ("inner space kept", [user("a \n  b")], CUE, " Human: a \n  b Assistant:"),
    ("consecutive questions joined by a newline", [user(" a "), user("b")], CUE, " Human: a\nb Assistant:"),
    (
        "consecutive answers joined by a newline",
        [user("a"), assistant("b "), assistant("c"), user("d")],
        CUE,
        " Human: a Assistant: b\nc</s>Human: d Assistant:",
    ),
    ("parts joined with nothing between", [user([part("h"), part("i")])], CUE, HI),
    ("parts that are strings", [user(["h", "i"])], CUE, HI),
    ("parts of the responses API", [user([part("h", "input_text"), part("i", "output_text")])], CUE, HI),
    ("refusals are text", [user([{"type": "refusal", "refusal": "hi"}])], CUE, HI),
    ("system folded", [system(" Be brief. "), user("hi")], CUE, " Human: Be brief.\nhi Assistant:"),
    (
        "developer is system",
        [system("Be brief.", "developer"), user("hi")],
        CUE,
        " Human: Be brief.\nhi Assistant:",
    ),
    ("systems joined", [system("a"), system("b"), user("hi")], CUE, " Human: a\nb\nhi Assistant:"),
    ("empty system", [system("  "), user("hi")], CUE, HI),
    ("empty answer", [user("a"), assistant(None), user("b")], CUE, " Human: a Assistant: </s>Human: b Assistant:"),
    ("no cue after a question", [user("hi")], NO_CUE, " Human: hi "),
    ("no cue after an answer", [user("hi"), assistant("yo")], NO_CUE, " Human: hi Assistant: yo</s>"),
    ("a cue after an answer", [user("hi"), assistant("yo")], CUE, " Human: hi Assistant: yo</s>Assistant:"),
    ("answer continued", [user("hi"), assistant("The answer is ")], CONTINUE, " Human: hi Assistant: The answer is"),
    ("empty answer continued", [user("hi"), assistant("")], CONTINUE, HI),
    (
        "answer after history continued",
        [user("a"), assistant("b"), user("c"), assistant("d")],
        CONTINUE,
        " Human: a Assistant: b</s>Human: c Assistant: d",
    ),
]

REFUSED = [
    ("no messages", [], "expected at least one user message"),
    ("system alone", [system("a")], "expected at least one user message"),
    ("assistant first", [assistant("a"), user("b")], r"messages\[0\]: the first message must be the user's"),
    ("assistant after system", [system("a"), assistant("b")], r"messages\[1\]: the first message must be the user's"),
    (
        "late system",
        [user("a"), system("b"), user("c")],
        r"messages\[1\]: a system message must come before all others",
    ),
    ("tool role", [user("a"), {"role": "tool", "content": "b"}], r"messages\[1\]: role 'tool': .* no place for tools"),
    ("function role", [{"role": "function", "content": "b"}], r"messages\[0\]: role 'function': .* no place for tools"),
    ("tool calls", [user("a"), assistant(None, tool_calls=[{}]), user("b")], r"messages\[1\]: tool calls"),
    ("function call", [user("a"), assistant("x", function_call={"name": "f"})], r"messages\[1\]: tool calls"),
    (
        "unknown role",
        [{"role": "root", "content": "b"}],
        r"role 'root': expected one of system, developer, user, assist",
    ),
    ("no role", [{"content": "b"}], r"messages\[0\]: role None"),
    ("role of another type", [{"role": ["user"], "content": "b"}], r"messages\[0\]: role \['user'\]"),
    ("empty user text", [user("a"), assistant("b"), user(" \n")], r"messages\[2\]: the user's text is empty"),
    ("empty among consecutive", [user("a"), user("")], r"messages\[1\]: the user's text is empty"),
    ("no content", [{"role": "user"}], r"messages\[0\]: the user's text is empty"),
    (
        "image part",
        [user([{"type": "image_url", "image_url": {"url": "x"}}])],
        r"type 'image_url': this model reads text",
    ),
    ("part without text", [user([{"type": "text"}])], r"type 'text': its text is missing"),
    ("part that is a number", [user([1])], r"type 'int': this model reads text only"),
    ("part of a strange type", [user([{"type": ["text"], "text": "a"}])], r"this model reads text only"),
    ("content that is a number", [user(7)], r"content of type int"),
    ("content that is an object", [user({"text": "hi"})], r"content of type dict"),
    (
        "half a surrogate pair",
        [user("ab\ud83dc")],
        r"messages\[0\]: character 2 of the content is half a surrogate pair",
    ),
]


def prompt(messages: list[Any], ending: Ending = CUE, template: TemplateName = "6b", **settings: Any) -> str:
    conversation = read_conversation(messages, ChatSettings(template, **settings))
    return END_OF_TURN.join(text_runs(conversation, template, ending))


@pytest.mark.parametrize(
    ("messages", "ending", "expected"), [row[1:] for row in ACCEPTED], ids=[r[0] for r in ACCEPTED]
)
def test_accepted(messages: list[Any], ending: Ending, expected: str) -> None:
    assert prompt(messages, ending) == expected


@pytest.mark.parametrize(("messages", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(messages: list[Any], reason: str) -> None:
    with pytest.raises(ConversationError, match=reason):
        prompt(messages)


def test_continuing_the_users_text_is_refused() -> None:
    with pytest.raises(ConversationError, match="continue_final_message: the last message must be the assistant's"):
        prompt([user("a")], CONTINUE)


def test_system_message_per_family() -> None:
    messages = [system("Be {brief}."), user("hi")]
    assert prompt(messages, template="13b") == "Human: Be {brief}.\nhi Assistant:"
    assert prompt(messages, template="70b") == "Be {brief}.\n Human: hi Assistant:"
    assert prompt([user("hi")], template="70b") == SYSTEMS["70b"] + HI


@pytest.mark.parametrize("template", ["6b", "13b", "70b"])
def test_system_message_refused_on_request(template: TemplateName) -> None:
    with pytest.raises(ConversationError, match=r"messages\[0\]: system messages are not accepted"):
        prompt([system("a"), user("hi")], template=template, system_role="reject")


def test_system_text_is_folded_into_the_first_question_only() -> None:
    messages = [system("S"), user("a"), assistant("b"), user("c")]
    assert prompt(messages) == " Human: S\na Assistant: b</s>Human: c Assistant:"


def test_a_spelling_split_over_parts_is_one_spelling(encoder_of: Any) -> None:
    rendered = encoder_of("metaspace-first", "6b").encode_messages([user([part("a</"), part("s>b")])])
    assert rendered.prompt == " Human: a</s>b Assistant:"
    assert (rendered.control_positions, rendered.control_text) == ([0], 1)
