"""`xuanyuan plan` from outside: the report, its picture, JSON and Helm values, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving import cli
from serving.checkpoint import Quantization
from serving.commands.plan import camel, helm_values, picture, yaml
from serving.errors import CheckpointError, ConfigError
from serving.hardware import declared
from serving.plan import Plan, make_plan
from serving.units import GIB
from tests.plan_models import DEMO, GPTQ, LLM_INT8, SIX, model


def test_the_command(family_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan", str(family_checkpoint), "--gpu", "T4", "--count", "2", "--context", "512"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" (float16) on 1 x T4, each with 14.5 GiB")
    assert "  --max-model-len 512" in lines
    assert "    maxModelLen: 512" in lines
    assert "note         1 of 2 GPUs stay free: more replicas (--ray) would use them" in lines


def test_the_command_for_programs(family_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan", str(family_checkpoint), "--cpu-memory", "24GiB", "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert values["device"] == "cpu"
    assert values["flags"][values["flags"].index("--kv-cache-memory-bytes") + 1] == str(values["kv_cache_bytes"])
    assert values["helm"]["config"]["kvCacheMemoryBytes"] == values["kv_cache_bytes"]
    assert cli.run(["plan", str(family_checkpoint), "--cpu-memory", "24GiB", "--helm"]) == 0
    assert capsys.readouterr().out.startswith("config:\n  model: ")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--cpu-memory", "1GiB"], "more free memory"),
        (["--gpu", "T4", "--cpu-memory", "1GiB"], "either by --gpu"),
        (["--gpu", "T5"], 'gpu: "T5" is not known'),
        (["--cpu-memory", "lots"], 'cpu_memory: "lots" is not a size'),
        (["--cpu-memory", "24"], 'cpu_memory: "24" is 24 bytes'),
        (["--count", "2"], "count=2: says how many of --gpu NAME"),
    ],
)
def test_the_command_refuses(family_checkpoint: Path, args: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        cli.run(["plan", str(family_checkpoint), *args])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no-one-of-this-name/no-such-model", "is not on this machine, and a plan is made from its config.json"),
        ("XuanYuan-6B-Chatt", 'did you mean "XuanYuan-6B-Chat"'),
        ("./no-such-folder", "there is no such folder"),
    ],
)
def test_the_command_fetches_nothing(name: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        cli.run(["plan", name, "--gpu", "T4"])


@pytest.mark.parametrize(
    ("name", "quantization", "pickled"),
    [
        ("XuanYuan-6B", None, False),
        ("XuanYuan-6B-Chat", None, False),
        ("XuanYuan-6B-Chat-8bit", LLM_INT8, False),
        ("XuanYuan-6B-Chat-4bit", GPTQ, True),
    ],
)
def test_the_6b_needs_no_file(
    name: str, quantization: Quantization | None, pickled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = make_plan(model(name, quantization=quantization), declared("L20"))
    assert cli.run(["plan", name, "--gpu", "L20", "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert values["weight_bytes"] == expected.weight_bytes
    assert values["kv_cache_tokens"] == expected.kv_cache_tokens
    assert "it is not on this machine: computed from the sizes that the catalog gives" in values["notes"]
    assert values["helm"]["config"].get("allowPickle", False) == pickled


@pytest.fixture
def gpu_plan() -> Plan:
    return make_plan(SIX, declared("A800-80G"))


def test_the_picture(gpu_plan: Plan) -> None:
    # Of 79.5 GiB in 60 letters: 11.9 of weights are 9, 58.1 of KV cache 44, 0.7 and 0.8 one each.
    bar, *legend = picture(gpu_plan)
    assert bar == f"[{'W' * 9}{'K' * 44}AC{'.' * 5}]"
    assert [line.split()[0] for line in legend] == ["W", "K", "A", "C", "."]


def test_helm_values_of_a_gpu(gpu_plan: Plan) -> None:
    values = helm_values(gpu_plan, "XuanYuan-6B-Chat", declared("A800-80G"))
    assert values["gpu"] == {"count": 1}
    assert list(yaml(values))[:4] == [
        "config:",
        '  model: "XuanYuan-6B-Chat"',
        '  device: "cuda"',
        '  dtype: "float16"',
    ]


def test_a_pod_with_the_memory_limit_of_the_values_plans_the_same() -> None:
    plan = make_plan(DEMO, declared(cpu_memory=64 * GIB))
    limits: Any = helm_values(plan, None, declared(cpu_memory=64 * GIB))["resources"]
    again = make_plan(DEMO, declared(cpu_memory=int(limits["limits"]["memory"].removesuffix("Gi")) * GIB))
    assert again.kv_cache_bytes == plan.kv_cache_bytes


@pytest.mark.parametrize(("name", "key"), [("max_model_len", "maxModelLen"), ("dtype", "dtype")])
def test_camel_case(name: str, key: str) -> None:
    assert camel(name) == key
