"""The reply parser, driven as vLLM's chat and responses routes drive it."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

REPLY = " Fine. The label Human: is a word\nHuman: more"
TRIMMED = "Fine. The label Human: is a word"


def stops() -> float:
    return REGISTRY.get_sample_value("xuanyuan_self_turn_stops_total") or 0.0


def chat(**values: Any) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return ChatCompletionRequest.model_validate({"messages": [{"role": "user", "content": "hi"}], **values})


@pytest.fixture
def parser() -> Any:
    """A function from template options to vLLM's parser around ours, as made for one request."""
    from vllm.parser import ParserManager

    from chat_template.plugin import register

    register()
    parser_class = ParserManager.get_parser(reasoning_parser_name="xuanyuan")
    assert parser_class is not None
    return lambda **options: parser_class(object(), None, chat_template_kwargs=options)


def streamed(parser: Any, pieces: list[str], request: Any) -> str:
    """The contents of the stream that the pieces of an answer become."""
    contents = []
    for number, piece in enumerate(pieces):
        delta = parser.parse_delta(
            delta_text=piece,
            delta_token_ids=[5],
            request=request,
            prompt_token_ids=[1],
            finished=number == len(pieces) - 1,
        )
        if delta is not None:
            assert delta.reasoning is None
            contents.append(delta.content)
    assert all(contents)
    return "".join(contents)


def test_whole(parser: Any) -> None:
    before = stops()
    assert parser().parse(REPLY, chat()) == (None, TRIMMED, [])
    assert stops() == before + 1


@pytest.mark.parametrize("size", [1, 3, 100])
def test_streamed(parser: Any, size: int) -> None:
    before = stops()
    pieces = [REPLY[at : at + size] for at in range(0, len(REPLY), size)]
    assert streamed(parser(), pieces, chat(stream=True)) == TRIMMED
    assert stops() == before + 1


def test_what_is_held_back_comes_at_the_end(parser: Any) -> None:
    assert streamed(parser(), [" A", ".\n", "Human", ""], chat(stream=True)) == "A.\nHuman"


def test_a_streamed_answer_that_is_parsed_again_as_a_whole_counts_once(parser: Any) -> None:
    before = stops()
    one = parser()
    streamed(one, list(REPLY), chat(stream=True))
    assert one.parse(REPLY, chat()) == (None, TRIMMED, [])
    assert stops() == before + 1


def test_several_answers_of_one_request_count_each(parser: Any) -> None:
    before = stops()
    one = parser()
    for _ in range(3):
        one.parse(REPLY, chat(n=3))
    assert stops() == before + 3


def test_a_continued_answer_keeps_its_space(parser: Any) -> None:
    assert parser(continue_final_message=True).parse(" world", chat())[1] == " world"
    assert parser(add_generation_prompt=False).parse(" Assistant: hi", chat())[1] == " Assistant: hi"


def test_hidden_reasoning_changes_nothing(parser: Any) -> None:
    assert streamed(parser(), [" A", " b"], chat(stream=True, include_reasoning=False)) == "A b"


TURN_STARTS = ["\nHuman:", "</s>Human:"]


@pytest.mark.parametrize(
    ("values", "stop", "kept_in_text"),
    [
        ({}, TURN_STARTS, True),
        ({"stop": "END"}, ["END", *TURN_STARTS], False),
        ({"stop": ["a", "b"]}, ["a", "b", *TURN_STARTS], False),
        ({"stop_token_ids": [7]}, TURN_STARTS, False),
        ({"skip_special_tokens": False}, TURN_STARTS, False),
    ],
)
def test_the_engine_is_told_to_stop(parser: Any, values: dict[str, Any], stop: list[str], kept_in_text: bool) -> None:
    request = parser().adjust_request(chat(**values))
    assert (request.stop, request.include_stop_str_in_output) == (stop, kept_in_text)
    params = request.to_sampling_params(16, {})
    assert (params.stop, params.include_stop_str_in_output) == (stop, kept_in_text)


def test_the_responses_route_is_told_too(parser: Any) -> None:
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

    request = parser().adjust_request(ResponsesRequest.model_validate({"input": "hi"}))
    assert request.to_sampling_params(16).stop == TURN_STARTS
