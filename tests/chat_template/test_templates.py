"""The Jinja files alone, as `--chat-template FILE` and transformers take them; and that the renderer says the same."""

from typing import Any

import pytest
from jinja2.exceptions import TemplateError

from chat_template.conversation import read_conversation
from chat_template.layout import END_OF_TURN, Ending, jinja_file, text_runs
from chat_template.settings import ChatSettings, TemplateName
from tests.chat_template.oracle import GOLDEN, TEMPLATES

CASES = [pytest.param(t, case, id=f"{t}-{n}") for t in TEMPLATES for n, case in enumerate(GOLDEN)]

SYSTEM, QUESTION, ANSWER = (
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": " 1+1? "},
    {"role": "assistant", "content": " 2. "},
)
CONVERSATIONS = {
    "system": [SYSTEM, QUESTION],
    "system and history": [SYSTEM, QUESTION, ANSWER, QUESTION],
    "two questions at once": [QUESTION, QUESTION],
    "two answers at once": [SYSTEM, QUESTION, ANSWER, ANSWER, QUESTION, QUESTION],
    "ends with an answer": [QUESTION, ANSWER],
}


def through_jinja(tokenizer: Any, template: TemplateName, messages: list[dict[str, str]], **options: bool) -> str:
    """The string that transformers makes of the messages with the file."""
    jinja = jinja_file(template).read_text(encoding="utf-8")
    string = tokenizer.apply_chat_template(messages, chat_template=jinja, tokenize=False, **options)
    assert isinstance(string, str)
    return string


@pytest.fixture(scope="module")
def tokenizer(load: Any) -> Any:
    return load("metaspace-first")


@pytest.mark.parametrize(("template", "case"), CASES)
def test_golden_strings_through_jinja(tokenizer: Any, template: TemplateName, case: dict[str, Any]) -> None:
    string = through_jinja(tokenizer, template, case["messages"], add_generation_prompt=True)
    assert string == "<s>" + case[template]


@pytest.mark.parametrize(("template", "case"), CASES)
def test_golden_strings_through_the_renderer(template: TemplateName, case: dict[str, Any]) -> None:
    conversation = read_conversation(case["messages"], ChatSettings(template))
    assert END_OF_TURN.join(text_runs(conversation, template, Ending())) == case[template]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("cue", [True, False])
def test_jinja_and_renderer_agree(tokenizer: Any, template: TemplateName, name: str, cue: bool) -> None:
    conversation = read_conversation(CONVERSATIONS[name], ChatSettings(template))
    ours = END_OF_TURN.join(text_runs(conversation, template, Ending(add_generation_prompt=cue)))
    assert through_jinja(tokenizer, template, CONVERSATIONS[name], add_generation_prompt=cue) == "<s>" + ours


@pytest.mark.parametrize("template", TEMPLATES)
def test_jinja_continues_the_last_answer(tokenizer: Any, template: TemplateName) -> None:
    string = through_jinja(tokenizer, template, [QUESTION, ANSWER], continue_final_message=True)
    assert string.endswith("Human: 1+1? Assistant: 2.")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("messages", [[ANSWER], [QUESTION, SYSTEM], [QUESTION, {"role": "tool", "content": "x"}]])
def test_jinja_refuses_what_the_prompt_has_no_place_for(tokenizer: Any, template: TemplateName, messages: Any) -> None:
    with pytest.raises(TemplateError, match="expected user and assistant messages"):
        through_jinja(tokenizer, template, messages)
