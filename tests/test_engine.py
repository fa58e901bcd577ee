"""From configuration to vLLM's arguments: what is printed, what vLLM's parser makes of it, and whether vLLM moved."""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from serving.checkpoint import read_checkpoint
from serving.config import ServingConfig, load_config
from serving.engine import engine_spec
from serving.errors import EXIT_CONFIGURATION
from serving.hardware import declared, detect
from serving.plan import make_plan
from tests.server_process import dry_run, xuanyuan

# The defaults of vLLM 0.29.0 for every flag that the launcher sets. A new engine that changes one must be looked at.
VLLM_DEFAULTS: dict[str, Any] = {
    "--model": "Qwen/Qwen3-0.6B",
    "--served-model-name": None,
    "--host": None,
    "--port": 8000,
    "--dtype": "auto",
    "--load-format": "auto",
    "--hf-overrides": {},
    "--max-model-len": None,
    "--max-num-seqs": None,
    "--max-num-batched-tokens": None,
    "--long-prefill-token-threshold": 0,
    "--tensor-parallel-size": 1,
    "--pipeline-parallel-size": 1,
    "--gpu-memory-utilization": 0.92,
    "--block-size": None,
    "--kv-cache-memory-bytes": None,
    "--enforce-eager": False,
    "--enable-prefix-caching": None,
    "--enable-chunked-prefill": None,
    "--generation-config": "auto",
    "--override-generation-config": {},
    "--tokenizer-mode": "auto",
    "--additional-config": {},
    "--reasoning-parser": "",
    "--middleware": [],
    "--enable-force-include-usage": False,
    "--fingerprint-mode": "full",
    "--disable-fastapi-docs": False,
    "--allowed-origins": ["*"],
    "--disable-uvicorn-access-log": False,
    "--uvicorn-log-level": "info",
}
# Never set by us, and the default must stay the safe one.
VLLM_SAFE_DEFAULTS = {
    "--trust-remote-code": False,
    "--trust-request-chat-template": False,
    "--enable-log-requests": False,
    "--shutdown-timeout": 0,
}


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser())


@pytest.fixture(scope="module")
def demo_run() -> dict[str, Any]:
    return dry_run()


@pytest.mark.parametrize(("flag", "default"), (VLLM_DEFAULTS | VLLM_SAFE_DEFAULTS).items())
def test_vllm_still_has_the_flag_with_the_same_default(
    parser: argparse.ArgumentParser, flag: str, default: object
) -> None:
    action = parser._option_string_actions[flag]
    assert action.default == default


def test_vllm_still_keeps_grammars_out_of_reasoning(parser: argparse.ArgumentParser) -> None:
    action = parser._option_string_actions["--structured-outputs-config"]
    assert action.default.enable_in_reasoning is False


def test_every_flag_that_is_set_is_watched(demo_run: dict[str, Any], family_run: dict[str, Any]) -> None:
    used = {word for run in (demo_run, family_run) for word in run["args"] if word.startswith("--")}
    # The last is watched by test_cpu_compile.py.
    assert used <= VLLM_DEFAULTS.keys() | {"--structured-outputs-config", "--compilation-config"}


@pytest.fixture(scope="module")
def family_run(family_checkpoint: Any) -> dict[str, Any]:
    return dry_run(str(family_checkpoint), "--template", "6b", "--system-role", "reject")


def test_vllm_parses_what_the_demo_is_started_with(parser: argparse.ArgumentParser, demo_run: dict[str, Any]) -> None:
    args = parser.parse_args(demo_run["args"])
    assert args.model == demo_run["model"]
    assert args.served_model_name == ["SmolLM2-135M-Instruct"]
    assert (args.host, args.port, args.dtype, args.max_model_len) == ("127.0.0.1", 8000, "bfloat16", 8192)
    assert args.enable_prefix_caching and args.enable_chunked_prefill
    assert not args.enforce_eager and args.compilation_config.backend == "serving.cpu_compile.inductor"
    assert args.load_format == "safetensors"
    assert args.middleware == ["serving.guard.Guard"]
    assert args.tokenizer_mode == "auto"
    assert not args.trust_remote_code


def test_a_family_checkpoint_gets_the_renderer_and_its_settings(
    parser: argparse.ArgumentParser, family_run: dict[str, Any]
) -> None:
    args = parser.parse_args(family_run["args"])
    assert args.tokenizer_mode == "xuanyuan"
    settings = args.additional_config["xuanyuan_chat"]
    assert (settings["template"], settings["system_role"], settings["turn_forgery"]) == ("6b", "reject", "log")
    assert args.dtype == "float16"
    assert args.max_model_len == 2048


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VLLM_NO_USAGE_STATS", "1"),
        ("VLLM_DO_NOT_TRACK", "1"),
        ("VLLM_SERVER_DEV_MODE", "0"),
        ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0"),
        ("VLLM_ALLOW_INSECURE_SERIALIZATION", "0"),
        ("HF_HUB_OFFLINE", "1"),
        ("KMP_BLOCKTIME", "1"),
    ],
)
def test_the_environment_is_hardened_and_tuned(demo_run: dict[str, Any], name: str, value: str) -> None:
    assert demo_run["env"][name] == value


def test_compiled_code_gets_the_names_of_layers_as_text(demo_run: dict[str, Any]) -> None:
    compiled = "--compilation-config" in demo_run["args"]
    assert demo_run["env"].get("VLLM_USE_LAYERNAME") == ("0" if compiled else None)


def test_the_guard_gets_its_settings_through_the_environment() -> None:
    run = dry_run("--max-body-bytes", "77", "--max-queue-seconds", "5")
    config = load_config({}, {name: value for name, value in run["env"].items() if name.startswith("XUANYUAN_")}).config
    assert (config.max_body_bytes, config.max_queue_seconds) == (77, 5.0)
    assert config.max_num_seqs > 0


def test_what_comes_after_two_dashes_goes_to_vllm_last_and_unchanged() -> None:
    run = dry_run("--max-model-len", "1024", "--", "--max-model-len", "512", "--seed=3")
    assert run["args"][-3:] == ["--max-model-len", "512", "--seed=3"]


def test_a_setting_after_two_dashes_is_known_to_the_guard_too() -> None:
    run = dry_run("--", "--max-num-seqs=4")
    assert run["env"]["XUANYUAN_MAX_NUM_SEQS"] == "4"


def test_all_cores_are_bound_and_what_was_tuned_by_hand_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    run = dry_run()
    assert sorted(map(int, run["env"]["VLLM_CPU_OMP_THREADS_BIND"].split(","))) == sorted(detect("cpu").cpus)
    assert "libiomp5" in run["env"]["LD_PRELOAD"]
    monkeypatch.setenv("KMP_BLOCKTIME", "100")
    assert dry_run()["env"]["KMP_BLOCKTIME"] == "100"


def test_a_cpu_engine_runs_uncompiled_when_told_to_or_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--enforce-eager" in dry_run("--enforce-eager")["args"]
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = xuanyuan("serve", "--dry-run", "--json")
    args = json.loads(done.stdout)["args"]
    assert "--enforce-eager" in args and "--compilation-config" not in args
    assert json.loads(done.stdout)["env"]["TORCHDYNAMO_DISABLE"] == "1"
    assert "no-such-compiler is missing" in done.stderr
    assert "is missing" not in xuanyuan("serve", "--dry-run", "--json", "--enforce-eager").stderr


def test_a_family_checkpoint_on_a_gpu(family_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(family_checkpoint, template="6b", device="cuda")
    plan = make_plan(checkpoint, declared("A800-80G"))
    args = engine_spec(ServingConfig(), checkpoint, plan).args
    pairs = dict(pairwise(args))
    assert (pairs["--dtype"], pairs["--tensor-parallel-size"]) == ("float16", "1")
    assert 0 < float(pairs["--gpu-memory-utilization"]) < 1
    assert "--enable-prefix-caching" in args and "--enable-chunked-prefill" in args
    assert "--enforce-eager" not in args and "--kv-cache-memory-bytes" not in args


def test_only_json_is_on_standard_output() -> None:
    done = xuanyuan("serve", "--dry-run", "--json")
    assert set(json.loads(done.stdout)) == {"model", "args", "env"}


def test_a_length_beyond_the_model_s_is_refused_at_once() -> None:
    done = xuanyuan("serve", "--max-model-len", "100000", timeout=20)
    assert done.returncode == EXIT_CONFIGURATION
    assert "100000" in done.stderr and "8192" in done.stderr.replace(",", "")
