"""The OpenAI API of the running server, asked by OpenAI's own client and by curl."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import openai
import pytest

from tests.server_process import ServerProcess

pytestmark = pytest.mark.engine

# No word of the answer is near a tie. The first after "What is the capital of France?" is: rounding decides there.
CAPITAL = [{"role": "user", "content": "Complete the sentence: The capital of France is"}]
PROMPTS = [
    "What is a bond?", "Explain inflation in one sentence.", "What does a central bank do?",
    "Write a haiku about the sea.",
    "What is 12 times 12?", "Name three primary colours.", "Who wrote Hamlet?", "What is photosynthesis?",
    "How do I boil an egg?", "What is compound interest?", "Give me a synonym of fast.", "What is the largest planet?",
    "Why is the sky blue?", "What is a stock exchange?", "Translate hello to Spanish.", "What is an insurance premium?",
    "List two uses of copper.", "What is a mortgage?", "Describe a cat.", "What is the speed of light?",
]  # fmt: skip


@pytest.fixture(scope="module")
def client(demo_server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo_server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "SmolLM2-135M-Instruct"


def test_chat(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=16)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_streamed_chat_equals_the_whole_answer_and_ends_with_usage(client: openai.OpenAI, model: str) -> None:
    ask = {"model": model, "messages": CAPITAL, "temperature": 0, "max_tokens": 16}
    whole = client.chat.completions.create(**ask)
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_completions(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="1, 2, 3, 4,", temperature=0, max_tokens=4)
    assert "5" in answer.choices[0].text


def test_n(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=CAPITAL, n=3, max_tokens=8, temperature=1.0, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_stop(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=CAPITAL, temperature=0, max_tokens=16, stop=["Paris"])
    assert "Paris" not in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


def test_the_same_seed_gives_the_same_answer(client: openai.OpenAI, model: str) -> None:
    poem = [{"role": "user", "content": "Write a haiku about the sea."}]
    ask = {"model": model, "messages": poem, "temperature": 1.0, "max_tokens": 16}
    # The first request computes the whole prompt, later ones find its first block in the cache: sums in another order.
    _, first, second, other = (
        client.chat.completions.create(**ask, seed=seed).choices[0].message.content for seed in (11, 11, 11, 12)
    )
    assert first == second != other


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=CAPITAL, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    for token in answer.choices[0].logprobs.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(top.logprob for top in token.top_logprobs) <= 0


def test_answers_in_a_json_schema(client: openai.OpenAI, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "capital": {"type": "boolean"}},
        "required": ["city", "capital"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model,
        messages=CAPITAL,
        temperature=0,
        max_tokens=128,
        response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}},
    )
    jsonschema.validate(json.loads(answer.choices[0].message.content), schema)


def test_32_at_once(demo_server: ServerProcess, model: str) -> None:
    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{demo_server.url}/v1", api_key="none", max_retries=0) as client:
            asked = [
                client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": f"Say the number {number}."}], max_tokens=16
                )
                for number in range(32)
            ]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    assert all(asyncio.run(ask_all()))


@pytest.mark.parametrize(
    ("change", "word"),
    [({"model": "no-such"}, "no-such"), ({"max_tokens": 10**6}, "max_tokens"), ({"temperature": -1}, "temperature")],
)
def test_a_bad_request_is_refused_in_openai_s_form(
    client: openai.OpenAI, model: str, change: dict[str, object], word: str
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(**({"model": model, "messages": CAPITAL} | change))
    assert refused.value.status_code in (400, 404)
    assert word in refused.value.body["message"]


def test_the_curl_line_of_the_banner_works_as_it_is_printed(demo_server: ServerProcess) -> None:
    (line,) = [line for line in demo_server.screen().splitlines() if line.strip().startswith("try")]
    done = subprocess.run(
        ["bash", "-c", line.strip().removeprefix("try").strip()], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


@pytest.mark.slow
def test_greedy_answers_equal_those_of_transformers(demo: Path, tmp_path: Path) -> None:
    """20 prompts of 32 tokens, both sides in float32."""
    server = ServerProcess(["--dtype", "float32"], tmp_path)
    try:
        url = server.wait_ready().url
        expected = transformers_tokens(demo, PROMPTS, 32)
        assert asyncio.run(served_tokens(url, PROMPTS, 32)) == expected
    finally:
        server.stop()


def transformers_tokens(folder: Path, prompts: list[str], count: int) -> list[list[int]]:
    """The ids that `generate` gives greedily for each prompt as one user message."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers = []
    for prompt in prompts:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**ids, max_new_tokens=count, do_sample=False)
        answers.append(out[0][ids["input_ids"].shape[1] :].tolist())
    return answers


async def served_tokens(url: str, prompts: list[str], count: int) -> list[list[int]]:
    """The ids that the server gives greedily for each prompt, all asked at once."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        model = (await client.models.list()).data[0].id
        asked = [
            client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=count,
                extra_body={"return_token_ids": True},
            )
            for prompt in prompts
        ]
        return [answer.choices[0].token_ids for answer in await asyncio.gather(*asked)]
