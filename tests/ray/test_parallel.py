"""Tensor parallelism inside a replica: the same greedy tokens as one process."""

import json
from pathlib import Path

import httpx
import pytest

from tests.ray.ray_process import RayProcess, small_args
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(900)]
PROMPTS = ["股票是什么", "1 2 3 4", "The central bank", "财务报表", "a"]


def tokens(server: ServerProcess) -> list[list[int]]:
    """What the server answers greedily."""
    answers = []
    for prompt in PROMPTS:
        body = {"model": "small", "prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": True}
        answer = httpx.post(f"{server.url}/v1/completions", json=body | {"return_token_ids": True}, timeout=120)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json()["choices"][0]["token_ids"])
    return answers


def test_two_workers_answer_as_one(small_checkpoint: Path, tmp_path: Path) -> None:
    args = small_args(small_checkpoint)
    found = []
    for kind, more in ((ServerProcess, []), (RayProcess, ["--tensor-parallel-size", "2"])):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        server = kind([*args, *more], folder)
        try:
            found.append(tokens(server.wait_ready()))
            if kind is RayProcess:
                assert len(server.titled("VLLM::Worker")) == 2  # type: ignore[attr-defined]
        finally:
            server.stop()
    assert found[0] == found[1], json.dumps(found)
    assert all(len(answer) == 24 for answer in found[0])
