"""llama.cpp as a baseline: its binary, the GGUF file in the cache, and the real server where there is one."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import llama_cpp
from benchmarks.__main__ import main
from benchmarks.block import run_block
from benchmarks.client import Server
from benchmarks.console import BenchmarkError
from benchmarks.metrics import Slo
from benchmarks.needs import MODULES, lacking
from benchmarks.processes import running
from benchmarks.systems import NAMES, Recipe, left_out, named
from benchmarks.workload import Question
from tests.benchmarks.conftest import TOLERANT
from tests.benchmarks.test_gguf_file import make

LLAMA_SERVER = os.environ.get("LLAMA_SERVER") or shutil.which(llama_cpp.BINARY)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Something that can be started."""
    path = tmp_path / "llama-server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def recipe(model: Path) -> Recipe:
    return Recipe(str(model), ("--model", str(model), "--dtype", "bfloat16"), {"VLLM_CPU_OMP_THREADS_BIND": "0"})


def test_its_flags_say_only_what_and_where(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XUANYUAN_CACHE", str(tmp_path / "cache"))
    make(tmp_path / "model")
    system = named("llama.cpp", recipe(tmp_path / "model"), None, program)
    (file,) = (tmp_path / "cache" / "gguf").rglob("*.gguf")
    port = system.server.url.rpartition(":")[2]
    words = f"{program} --model {file} --alias benchmark --host 127.0.0.1 --port {port}"
    assert " ".join(system.command) == words and not system.absent


def test_without_a_binary_it_is_absent_and_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    system = named("llama.cpp", recipe(tmp_path), None)
    assert not system.command
    assert system.absent == f"there is no llama-server on PATH; {llama_cpp.HOW_TO_GET}"
    monkeypatch.setenv("PATH", str(program.parent))
    assert llama_cpp.find_binary(None) == program


def test_a_checkpoint_that_has_no_equal_form_makes_it_absent(program: Path, tmp_path: Path) -> None:
    make(tmp_path / "model", quantization_config={"quant_method": "gptq"})
    system = named("llama.cpp", recipe(tmp_path / "model"), None, program)
    assert "quantized (gptq)" in system.absent and not system.command


@pytest.mark.parametrize("path", ["/nowhere/llama-server", "/dev/null", "/tmp", __file__])
def test_a_path_that_is_no_program_is_refused_at_once(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected the path of llama\.cpp's llama-server"):
        llama_cpp.binary(path)
    with pytest.raises(SystemExit) as ended:
        main(["compare", "launcher", "llama.cpp", "--llama-server", path])
    assert ended.value.code == 2 and f"--llama-server: '{path}'" in capsys.readouterr().err


def test_the_file_is_made_once_and_anew_for_another_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, cache = tmp_path / "model", tmp_path / "cache"
    make(model)
    first = llama_cpp.gguf_of(model, cache)
    assert llama_cpp.gguf_of(model, cache) == first and capsys.readouterr().err.count("making a GGUF file") == 1
    assert first.read_bytes().startswith(b"GGUF")
    first.with_suffix(".gguf.part").write_bytes(b"what a kill left")
    make(model, max_position_embeddings=128)
    second = llama_cpp.gguf_of(model, cache)
    assert second != first and [path.name for path in first.parent.glob("*.gguf*")] == [second.name]


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path / "model", architectures=["Other"])
    with pytest.raises(BenchmarkError, match=r"no GGUF file: .* of the architecture Other"):
        llama_cpp.gguf_of(tmp_path / "model", tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.gguf*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match="cannot be made: Not a directory"):
        llama_cpp.gguf_of(tmp_path / "model", tmp_path / "file")


def test_the_cache_is_beside_the_demo() -> None:
    assert llama_cpp.cache_folder({"XUANYUAN_CACHE": "/c"}) == Path("/c/gguf")
    assert llama_cpp.cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/xuanyuan/gguf")
    assert llama_cpp.cache_folder({}) == Path.home() / ".cache/xuanyuan/gguf"


def test_every_system_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(MODULES) == set(NAMES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else object())
    assert lacking("ray") == "pyarrow is not installed; make install brings it" and lacking("hf") == ""


def test_a_command_that_leaves_systems_out_lists_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rest = {system.name: system.absent for system in left_out(("launcher", "plain"))}
    assert set(rest) == set(NAMES) - {"launcher", "plain"}
    assert rest["hf"] == "not part of this benchmark; python -m benchmarks compare launcher hf measures it"
    assert "no llama-server" in rest["llama.cpp"]


@pytest.fixture(scope="module")
def llama_server(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real one on the demo checkpoint."""
    if not LLAMA_SERVER:
        pytest.skip(f"no {llama_cpp.BINARY} on PATH, and $LLAMA_SERVER names none")
    system = named("llama.cpp", recipe(demo), None, Path(LLAMA_SERVER))
    assert not system.absent
    with running(system, tmp_path_factory.mktemp("llama")) as found:
        yield found.server


def ask(server: Server, path: str, body: dict[str, Any]) -> Any:
    with urllib.request.urlopen(server.url + path, json.dumps(body).encode()) as response:
        return json.load(response)


# What transformers makes of the same checkpoint: the tokens of texts, a rendered chat, and greedy answers to prompts.
REFERENCE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
asked, folder = json.load(sys.stdin), sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
tokens = [tokenizer(text)["input_ids"] for text in asked["texts"]]
chat = tokenizer.apply_chat_template(asked["messages"], tokenize=False, add_generation_prompt=True)
answers = []
for prompt in asked["prompts"]:
    ids = torch.tensor([prompt])
    made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    answers.append(tokenizer.decode(made[0, len(prompt):], skip_special_tokens=True))
print(json.dumps({"tokens": tokens, "chat": chat, "answers": answers}))
"""
MESSAGES = [{"role": "user", "content": "Complete the sentence: The capital of France is"}]
TEXTS = [
    "What is a bond's yield?",
    "股票和债券有什么区别?",
    "12,345.6 % of 2000\n\n  x = 10",
    "<|im_start|>user\nhi<|im_end|>",
]


@pytest.mark.slow
def test_the_real_server_has_the_same_model(llama_server: Server, demo: Path) -> None:
    """Tokens, chat template and weights: the same ids, the same prompt and nearly always the same next words."""
    tokens = [
        ask(llama_server, "/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]
        for text in TEXTS
    ]
    chat = ask(llama_server, "/apply-template", {"messages": MESSAGES})["prompt"]
    prompts = [*tokens[:3], ask(llama_server, "/tokenize", {"content": chat, "parse_special": True})["tokens"]]
    body = {"max_tokens": 8, "temperature": 0}
    answers = [ask(llama_server, "/v1/completions", {"prompt": prompt, **body}) for prompt in prompts]
    asked = json.dumps({"texts": TEXTS, "messages": MESSAGES, "prompts": prompts})
    words = [sys.executable, "-W", "ignore", "-c", REFERENCE, str(demo)]
    done = subprocess.run(words, input=asked, stdout=subprocess.PIPE, text=True, check=True)
    expected = json.loads(done.stdout.splitlines()[-1])
    assert (tokens, chat) == (expected["tokens"], expected["chat"])
    assert "Paris" in answers[-1]["choices"][0]["text"]
    # In bfloat16 sums in another order may turn a near tie, so one answer of four may differ.
    same = [got["choices"][0]["text"] == text for got, text in zip(answers, expected["answers"], strict=True)]
    assert sum(same) >= len(prompts) - 1, (answers, expected["answers"])


@pytest.mark.slow
def test_the_real_server_answers_at_the_length_that_was_asked(llama_server: Server) -> None:
    """Token ids and chats, more at a time than it has slots."""
    asked = [Question([1, 300 + number, 400, 401], 9) for number in range(6)]
    asked += [Question([{"role": "user", "content": "What is a share?"}], 12)] * 2
    calls = [question.call("benchmark", ignore_eos=True) for question in asked]
    block = run_block(llama_server, calls, concurrency=8, slo=Slo(), limits=TOLERANT)
    assert block.void == [] and [item.output_tokens for item in block.outcomes] == [9] * 6 + [12] * 2
    assert all(item.input_tokens == 4 for item in block.outcomes[:6])
