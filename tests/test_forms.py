"""The demo in 4-bit, in 8-bit and as a base model: served by the launcher, answering sensibly."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.server_process import ServerProcess

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def ask(server: ServerProcess, route: str, **body: object) -> tuple[int, dict[str, Any]]:
    """Status and body of a request with greedy sampling."""
    data = json.dumps({"model": "SmolLM2-135M-Instruct", "temperature": 0, "max_tokens": 16, **body}).encode()
    request = urllib.request.Request(f"{server.url}/v1/{route}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_it_knows_the_capital_of_france(form_server: ServerProcess) -> None:
    status, answer = ask(form_server, "completions", prompt="The capital of France is")
    assert status == 200
    assert "Paris" in answer["choices"][0]["text"]


def test_chat_works_or_says_why_not(form_server: ServerProcess) -> None:
    messages = [{"role": "user", "content": "Complete the sentence: The capital of France is"}]
    status, answer = ask(form_server, "chat/completions", messages=messages)
    if "base" not in form_server.args:
        assert status == 200
        assert "Paris" in answer["choices"][0]["message"]["content"]
        return
    assert status == 400
    assert "completion-only" in answer["error"]["message"]
    assert "/v1/completions" in answer["error"]["message"]
