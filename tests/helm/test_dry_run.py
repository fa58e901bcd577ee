"""The environment that each ci values file renders starts the launcher, and gives the engine the flags it should."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving.keys import Key, digest, write_keys
from tests.helm.chart import CI_VALUES, Document, ci_values, name_of, render
from tests.helm.checkpoints import FORMS, fake_nvidia_smi, into_hub_cache, make_checkpoint
from tests.helm.container import Container, container

SIX = {"--served-model-name": "XuanYuan-6B-Chat", "--dtype": "float16", "--max-model-len": "2048"}
# What the values of each file must have come to, as flags of the engine.
FLAGS: dict[str, dict[str, str]] = {
    "anonymous": {"--host": "0.0.0.0", "--port": "8000"},
    "base": {"--served-model-name": "demo-base"},
    "default": {"--host": "0.0.0.0", "--port": "8000", "--served-model-name": "SmolLM2-135M-Instruct"},
    "gpu": {
        **SIX,
        "--tensor-parallel-size": "1",
        "--override-generation-config": '{"temperature": 0.7, "top_p": 0.95, "max_new_tokens": 1024}',
    },
    "gpu-4bit": {**SIX, "--served-model-name": "XuanYuan-6B-Chat-4bit"},
    "gpu-8bit": {**SIX, "--served-model-name": "XuanYuan-6B-Chat-8bit"},
    "hostpath": SIX,
    "hpa": {},
    "httproute": {},
    "ingress": {},
    "keda": {},
    "keys": {},
    "mig": {**SIX, "--gpu-memory-utilization": "0.85"},
    "openshift": {},
    "ray": {"--served-model-name": "SmolLM2-135M-Instruct"},
    "ray-gpu": {**SIX, "--tensor-parallel-size": "2"},
    "tensor-parallel": {
        "--served-model-name": "xuanyuan",
        "--tensor-parallel-size": "2",
        "--pipeline-parallel-size": "1",
    },
    "texts": {"--served-model-name": "1e3", "--seed": "7"},
}
# What they must have come to for the guard, in the engine's environment.
ENVIRONMENT: dict[str, dict[str, str]] = {
    "anonymous": {"XUANYUAN_ALLOW_ANONYMOUS": "true"},
    "gpu": {"XUANYUAN_MAX_TOKENS": "1024"},
    "httproute": {"XUANYUAN_REQUEST_TIMEOUT": "1800.0", "XUANYUAN_DRAIN_TIMEOUT": "300.0"},
    "ingress": {"XUANYUAN_REQUEST_TIMEOUT": "0.0", "XUANYUAN_MAX_BODY_BYTES": "4194304"},
    "keda": {
        "XUANYUAN_TOKENS_PER_MINUTE": "20000",
        "XUANYUAN_RATE_LIMIT_STORAGE": "redis://redis.limits:6380/0",
    },
    "keys": {
        "XUANYUAN_REQUESTS_PER_MINUTE": "60",
        "XUANYUAN_RATE_LIMIT_FAILURE": "closed",
        "XUANYUAN_RATE_LIMIT_STORAGE": "redis://:secret@redis:6379/0",
    },
    "texts": {"XUANYUAN_ALLOWED_ORIGINS": "yes"},
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The family's 6B checkpoints, at their true size, without bytes."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in FORMS:
        make_checkpoint(folder / name, name)
    return folder


def test_every_shape_has_its_flags() -> None:
    assert set(FLAGS) == {name_of(path) for path in CI_VALUES}


@pytest.mark.parametrize("name", list(FLAGS))
def test_dry_run(tmp_path: Path, checkpoints: Path, name: str) -> None:
    documents = render(ci_values(name)) + brought(tmp_path)
    started = container(documents, tmp_path / "pod")
    provide_weights(ci_values(name), started, checkpoints)
    spec = dry_run(started, gpus=ci_values(name).get("gpu", {}).get("count", 0), folder=tmp_path)
    given = dict(zip(spec["args"], spec["args"][1:], strict=False))
    assert {flag: given.get(flag) for flag in FLAGS[name]} == FLAGS[name]
    assert {key: spec["env"].get(key) for key in ENVIRONMENT.get(name, {})} == ENVIRONMENT.get(name, {})
    if "XUANYUAN_KEYS_FILE" in started.env:
        assert Path(spec["env"]["XUANYUAN_KEYS_FILE"]).is_file()


def test_a_wrong_value_would_be_seen(tmp_path: Path) -> None:
    """The launcher reads what is rendered: a value that only it can judge is refused by it, with its name."""
    started = container(render({"config": {"allowedOrigins": "x", "revision": "y", "maxModelLen": 9000}}), tmp_path)
    done = run(started, ["--dry-run"])
    assert done.returncode == 2
    assert "max_model_len=9000" in done.stderr


def brought(folder: Path) -> list[Document]:
    """The Secrets that the ci files name and do not make."""
    file = folder / "keys"
    write_keys(file, [Key("team", digest("xy-team")), Key("prometheus", digest("xy-p"), scopes=("metrics",))])
    contents = {
        "team-keys": {"keys": file.read_text(), "prometheus": "xy-p", "tester": "xy-team"},
        "redis": {"url": "redis://:secret@redis:6379/0"},
        "hub": {"token": "hf_x", "modelscope": "ms_x"},
    }
    return [secret(name, content) for name, content in contents.items()]


def secret(name: str, content: dict[str, str]) -> Document:
    """A Secret as a document."""
    data = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def provide_weights(values: Document, started: Container, checkpoints: Path) -> None:
    """Put the model that the values ask for into the pod's volume: a folder, or what its init container leaves."""
    model = values.get("config", {}).get("model", "")
    if not model:
        return
    weights = started.folders["/weights"]
    if model.startswith("/weights/"):
        (weights / model.removeprefix("/weights/")).symlink_to(checkpoints / Path(model).name)
    else:
        hub = values["config"].get("hub", "huggingface")
        into_hub_cache(checkpoints / model, weights, model, hub=hub)


def dry_run(started: Container, *, gpus: int, folder: Path) -> dict[str, Any]:
    """What `xuanyuan serve --dry-run --json` prints in this container, on a node with so many GPUs."""
    if gpus:
        started.env["PATH"] = f"{fake_nvidia_smi(folder / 'bin', gpus)}:{started.env['PATH']}"
    done = run(started, ["--dry-run", "--json"])
    assert done.returncode == 0, done.stderr
    spec: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return spec


def run(started: Container, words: list[str]) -> subprocess.CompletedProcess[str]:
    """The container's command with these words after `serve`. A Ray worker's is not ours: KubeRay writes it."""
    argv = started.argv if started.argv[:1] == ["xuanyuan"] else ["xuanyuan", "serve"]
    return subprocess.run(
        [*argv[:2], *words, *argv[2:]],
        env=started.env,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
