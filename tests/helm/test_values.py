"""Every value has a comment and a closed schema, and every setting goes from value to engine without an orphan."""

import dataclasses
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import yaml

from serving.catalog import load_catalog
from serving.commands.plan import helm_values
from serving.commands.plan import yaml as plan_yaml
from serving.commands.serve import SHARED
from serving.config import FIELDS, from_environ, kind_of
from serving.engine import arguments, environment
from serving.guard.settings import GuardSettings, environ_name
from serving.hardware import declared
from serving.plan import make_plan
from serving.units import GIB
from tests.helm.chart import CHART, ROOT, Document, pod_specs, render, settings
from tests.plan_models import DEMO, GPTQ, LLM_INT8, SIX, model

# What a setting that is neither a flag of the engine's nor a matter of the guard is for: who reads it.
LAUNCHER = {
    "model": "the folder that --model names",
    "catalog": "the checkpoint's row",
    "hub": "where the init container fetches from",
    "revision": "what it fetches",
    "demo_form": "the folder that --model names",
    "start_timeout": "VLLM_ENGINE_READY_TIMEOUT_S",
    "drain_timeout": "the launcher's drain",
    "drain_delay": "the launcher's drain",
    "engine_log": "the launcher's log",
    "device": "the plan",
    "ray": "the kind of object",
    "ray_address": "nothing in a pod: the Ray cluster is the pod's own",
    "replicas": "the RayService's application",
    "autoscale": "the RayService's application",
    "routing": "the RayService's application",
    "replica_cpus": "the RayService's application",
    "ray_gpu": "the RayService's plan",
    "wait_for_resources": "the RayService's application",
}
# Flags that carry a setting under another name.
FLAG_OF = {
    "allow_pickle": "--load-format",
    "template": "--tokenizer-mode",
    "system_role": "--tokenizer-mode",
    "turn_forgery": "--tokenizer-mode",
    "truncate_history": "--tokenizer-mode",
    "served_model_name": "--served-model-name",
}
# A value of each kind that is not the default, and how its variable reads.
OTHER: dict[type, Any] = {bool: True, int: 7, float: 7.5, str: "x"}


def generator() -> ModuleType:
    """helm/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "helm" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


GENERATE = generator()


def test_what_is_generated_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    """Values, schema and README follow from comments and settings; `python helm/generate.py` makes them anew."""
    code = GENERATE.main(["--check"])
    assert code == 0, capsys.readouterr().out


def test_every_value_has_a_comment() -> None:
    values = GENERATE.read_values((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert [".".join(value.path) for value in values if not value.is_section and not value.comment] == []
    assert len(values) > 150


def test_the_schema_is_closed_at_every_level() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    open_ones = [path for path, node in objects(schema, "") if node.get("additionalProperties", True) is True]
    # These are objects in name only: Kubernetes' own "any of these" have no fields of their own.
    assert open_ones == ["/properties/global"]
    assert schema["properties"]["global"]["maxProperties"] == 0


def objects(node: Any, path: str) -> Iterator[tuple[str, Document]]:
    """Every schema of an object, with where it is."""
    if isinstance(node, dict):
        if node.get("type") == "object" or isinstance(node.get("properties"), dict):
            yield path, node
        for key, child in node.items():
            yield from objects(child, f"{path}/{key}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from objects(child, f"{path}/{index}")


def test_the_defaults_fit_the_schema_and_the_launchers_own() -> None:
    """Only what a pod needs differs from the launcher's defaults: the address, the log, time for load balancers."""
    config = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["config"]
    differing = {}
    for name in GENERATE.settings():
        default = FIELDS[name].default
        if config[GENERATE.camel(name)] != ("" if default is None else default):
            differing[name] = config[GENERATE.camel(name)]
    assert differing == {"host": "0.0.0.0", "engine_log": "-", "log_format": "json", "drain_delay": 10}


@pytest.mark.parametrize("name", list(FIELDS))
def test_no_orphan(name: str) -> None:
    """A field of the configuration has a value, that value its variable, and the variable gives the field again."""
    item = FIELDS[name]
    if name in GENERATE.DECIDED_ELSEWHERE:
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        assert GENERATE.DECIDED_ELSEWHERE[name] in values
        return
    value = other_value(name)
    rendered = settings(render({"config": {GENERATE.camel(name): value}, **needed(name)}))
    variable = environ_name(name)
    assert variable in rendered
    assert from_environ({variable: rendered[variable]}) == {name: value}
    assert kind_of(item) is type(value)


def other_value(name: str) -> Any:
    """A value that is not the default: another choice, or one of the field's type."""
    item, kind = FIELDS[name], kind_of(FIELDS[name])
    if item.metadata["choices"]:
        return next(choice for choice in reversed(item.metadata["choices"]) if choice != item.default)
    if kind is float and name == "gpu_memory_utilization":
        return 0.5
    return OTHER[kind] if OTHER[kind] != item.default else not item.default


def needed(name: str) -> Document:
    """What else must be set where one setting needs another."""
    if name == "device":
        return {"gpu": {"count": 1}, "config": {"device": "cuda", "model": "x"}}
    if name == "model":
        return {}
    return {"rateLimitSecret": {"name": ""}}


def test_no_value_without_a_field() -> None:
    """What is under `config` is a field, each of them: a value that nobody reads is an orphan too."""
    config = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["config"]
    fields = {GENERATE.camel(name): name for name in FIELDS}
    assert set(config) <= set(fields)
    # Helm's own function makes the variable's name of it: the same as the launcher's.
    for variable in settings(render({"mode": "ray"})):
        assert variable in {environ_name(name) for name in FIELDS}


def test_every_field_reaches_the_engine_or_the_guard() -> None:
    """The last stage: the field is read by the engine's flags, by the guard, or by a part that is named."""
    flags = {flag for flag, _ in arguments_of_all_kinds()}
    guard = {item.name for item in dataclasses.fields(GuardSettings)}
    orphans = [
        name
        for name in FIELDS
        if f"--{name.replace('_', '-')}" not in flags
        and FLAG_OF.get(name) not in flags
        and name not in guard
        and name not in LAUNCHER
    ]
    assert orphans == []
    assert {name for name in SHARED if f"--{name.replace('_', '-')}" not in flags} == set()


def arguments_of_all_kinds() -> list[tuple[str, object]]:
    """The rows of the engine's table, for a GPU with the family's template."""
    from serving.config import ServingConfig

    config = ServingConfig(template="6b", gpu_memory_utilization=0.5, kv_cache_memory_bytes=GIB)
    checkpoint = dataclasses.replace(SIX, template="6b")
    plan = make_plan(checkpoint, declared("A800-80G"))
    assert environment(config, plan, (), (), {}, compiles=False)
    return arguments(config, checkpoint, plan)


@pytest.mark.parametrize(
    ("values", "variable", "text"),
    [
        ({"maxBodyBytes": 1048576}, "MAX_BODY_BYTES", "1048576"),  # not 1.048576e+06
        ({"kvCacheMemoryBytes": 2**53 - 1}, "KV_CACHE_MEMORY_BYTES", "9007199254740991"),
        ({"drainTimeout": 0}, "DRAIN_TIMEOUT", "0"),
        ({"bodyTimeout": 0.001}, "BODY_TIMEOUT", "0.001"),
        ({"requestTimeout": 1000000000}, "REQUEST_TIMEOUT", "1000000000"),
        ({"allowPickle": True}, "ALLOW_PICKLE", "true"),
        ({"servedModelName": "yes"}, "SERVED_MODEL_NAME", "yes"),
        ({"servedModelName": "a\n'b' \"c\": {{ d }} 中"}, "SERVED_MODEL_NAME", "a\n'b' \"c\": {{ d }} 中"),
    ],
)
def test_how_a_value_is_written(values: Document, variable: str, text: str) -> None:
    assert settings(render({"config": values}))[f"XUANYUAN_{variable}"] == text


def test_an_empty_text_sets_nothing() -> None:
    assert "XUANYUAN_MODEL" not in settings(render())


@pytest.mark.parametrize("mode", ["standalone", "ray"])
def test_copies(mode: str) -> None:
    """On Ray the application is told how many copies there are; a Deployment has them itself."""
    rendered = settings(render({"mode": mode, "replicas": 3}))
    scaled = settings(render({"mode": mode, "autoscaling": {"enabled": True, "minReplicas": 2}}))
    assert rendered.get("XUANYUAN_REPLICAS") == ("3" if mode == "ray" else None)
    assert scaled.get("XUANYUAN_AUTOSCALE") == ("2:4" if mode == "ray" else None)


def test_a_base_model_is_known_to_have_no_chat() -> None:
    """helm test and the notes ask what the model can answer: by the catalog's own words."""
    for entry in load_catalog().entries:
        documents = render({"config": {"model": entry.name}, "gpu": {"count": 1}})
        (test,) = [pod for document in documents if document["kind"] == "Pod" for pod in pod_specs(document)]
        assert (test["containers"][0]["command"] == ["xuanyuan"]) is entry.chat, entry.name


def test_plan_prints_values_that_the_chart_takes() -> None:
    for checkpoint, name in ((SIX, "XuanYuan-6B-Chat"), (DEMO, None)):
        hardware = declared("A800-80G", 2) if name else declared(cpu_memory=24 * GIB)
        values = yaml.safe_load("\n".join(plan_yaml(helm_values(make_plan(checkpoint, hardware), name, hardware))))
        documents = render(values)
        for key, value in values["config"].items():
            variable = environ_name(re.sub(r"([A-Z])", r"_\1", key).lower())
            assert settings(documents)[variable] == str(value)


@pytest.mark.parametrize("name", ["XuanYuan-6B", "XuanYuan-6B-Chat", "XuanYuan-6B-Chat-8bit", "XuanYuan-6B-Chat-4bit"])
def test_the_values_file_of_a_checkpoint_is_the_plans(name: str) -> None:
    """values-gpu.yaml and one of these are a whole installation; each is what `xuanyuan plan NAME --helm` prints."""
    file = yaml.safe_load((CHART / f"values-{name.lower()}.yaml").read_text(encoding="utf-8"))
    printed = planned(name)
    if file["config"].pop("allowPickle", False):
        assert name.endswith("4bit")
    assert file == printed
    base = yaml.safe_load((CHART / "values-gpu.yaml").read_text(encoding="utf-8"))
    documents = render({**base, **file, "config": base.get("config", {}) | file["config"]})
    assert settings(documents)["XUANYUAN_MODEL"] == name


def planned(name: str) -> Document:
    """The plan's values for a checkpoint on the card that the files are for."""
    quantization = {"8bit": LLM_INT8, "4bit": GPTQ}.get(name.rpartition("-")[2])
    checkpoint = model(name, quantization=quantization)
    hardware = declared("A800-80G")
    return yaml.safe_load("\n".join(plan_yaml(helm_values(make_plan(checkpoint, hardware), name, hardware))))
