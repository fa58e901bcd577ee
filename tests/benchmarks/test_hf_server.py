"""The Hugging Face baseline: the answers of `generate`, streamed, alone and in a batch."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.block import run_block
from benchmarks.client import Server
from benchmarks.metrics import Slo
from benchmarks.processes import running
from benchmarks.systems import Recipe, System, command_of, free_port
from benchmarks.workload import Question
from tests.benchmarks.conftest import TOLERANT

PROMPTS = [[1, 300 + number, *range(400, 404 + number)] for number in range(4)]
TOKENS = 7


@pytest.fixture(scope="module", params=["1", "4"])
def server(
    request: pytest.FixtureRequest, family_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One that answers one at a time, then one that answers up to four together."""
    port = free_port()
    command = (sys.executable, "-W", "ignore", "-m", "benchmarks.hf_server", "--model", str(family_checkpoint))
    words = ("--port", str(port), "--batch", request.param)
    system = System("hf", Server(f"http://127.0.0.1:{port}"), (*command, *words))
    with running(system, tmp_path_factory.mktemp("hf")) as found:
        yield found.server


@pytest.fixture(scope="module")
def expected(family_checkpoint: Path) -> list[str]:
    """What `generate` itself answers to each prompt, one at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(family_checkpoint)
    model = AutoModelForCausalLM.from_pretrained(family_checkpoint)
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False
        )
        answers.append("".join(tokenizer.decode([token]) for token in made[0, len(prompt) :].tolist()))
    return answers


def test_answers_are_those_of_generate(server: Server, expected: list[str]) -> None:
    calls = [Question(prompt, TOKENS).call("benchmark", ignore_eos=True) for prompt in PROMPTS]
    block = run_block(server, calls, concurrency=4, slo=Slo(), limits=TOLERANT)
    assert block.void == []
    # In float16 the padding of a batch may turn a near tie, on one machine or another.
    same = [item.text == answer for item, answer in zip(block.outcomes, expected, strict=True)]
    assert sum(same) >= len(PROMPTS) - 1
    assert all(item.pieces == TOKENS and len(item.gaps) >= TOKENS // 2 for item in block.outcomes)


def test_texts_and_shorter_answers(server: Server) -> None:
    """In one batch, each answer has its own length."""
    calls = [Question("What is a bond?", length).call("benchmark", ignore_eos=True) for length in (1, 5, 3)]
    block = run_block(server, calls, concurrency=3, slo=Slo(), limits=TOLERANT)
    assert block.void == [] and [item.output_tokens for item in block.outcomes] == [1, 5, 3]


def test_both_ways_are_systems() -> None:
    found = Recipe("/m", ("--model", "/m"), {})
    for name, batch in {"hf": 1, "hf-batch": 32}.items():
        words = " ".join(command_of(name, found, None, 9))
        assert words.endswith(f"-m benchmarks.hf_server --model /m --port 9 --batch {batch}")
