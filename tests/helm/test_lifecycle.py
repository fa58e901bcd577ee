"""Real Helm installs, tests, upgrades, rolls back and uninstalls, against an emulator of the Kubernetes API."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import CHART, CRDS, NEWEST, Document, run

pytestmark = pytest.mark.slow
WAIT = ("--wait", "--timeout", "60s")
MODES = {"standalone": "default", "ray": "ray"}


class Cluster:
    """The emulator, and Helm and kubectl against it."""

    def __init__(self, helm: Path, kubeconfig: str, home: Path) -> None:
        self.program = helm
        self.env = {"PATH": os.environ["PATH"], "KUBECONFIG": kubeconfig, "HOME": str(home)}

    def helm(self, *words: str) -> str:
        """Run helm; its standard output. Fails with what it said."""
        done = run(self.program, *words, env=self.env)
        assert done.returncode == 0, f"helm {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def objects(self, kind: str) -> dict[str, Document]:
        """The objects of a kind by name."""
        done = run(self.program.parent / "kubectl", "get", kind, "-o", "json", env=self.env)
        assert done.returncode == 0, done.stderr
        return {item["metadata"]["name"]: item for item in json.loads(done.stdout)["items"]}

    def secret(self, name: str) -> Mapping[str, str]:
        """A Secret's texts."""
        return {key: base64.b64decode(text).decode() for key, text in self.objects("secrets")[name]["data"].items()}


@pytest.fixture
def cluster(helm: Path, kube_tools: Path, tmp_path: Path) -> Iterator[Cluster]:
    """An empty cluster of the newest version."""
    command = [
        sys.executable,
        "-B",
        str(kube_tools / "emulator.py"),
        "--crds",
        str(CRDS),
        "--kubernetes-version",
        NEWEST,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout is not None
        try:
            yield Cluster(helm, json.loads(emulator.stdout.readline())["kubeconfig"], tmp_path)
        finally:
            emulator.terminate()


@pytest.mark.parametrize("mode", list(MODES))
def test_a_release_lives_and_goes(cluster: Cluster, mode: str) -> None:
    file = str(CHART / "ci" / f"{MODES[mode]}-values.yaml")
    said = cluster.helm("install", "demo", str(CHART), "--values", file, *WAIT)
    assert "rayservice/demo-xuanyuan" in said if mode == "ray" else "deployment/demo-xuanyuan" in said
    keys = cluster.secret("demo-xuanyuan-api-keys")

    assert "Succeeded" in cluster.helm("test", "demo")

    cluster.helm("upgrade", "demo", str(CHART), "--values", file, "--set", "replicas=3,config.maxTokens=512", *WAIT)
    assert copies(cluster, mode) == 3
    assert cluster.objects("configmaps")["demo-xuanyuan"]["data"]["XUANYUAN_MAX_TOKENS"] == "512"
    assert cluster.secret("demo-xuanyuan-api-keys") == keys  # an upgrade keeps them

    cluster.helm("rollback", "demo", "1", *WAIT)
    assert copies(cluster, mode) == (2 if mode == "ray" else 1)
    assert cluster.secret("demo-xuanyuan-api-keys") == keys

    cluster.helm("uninstall", "demo", "--wait")
    left = {kind: list(cluster.objects(kind)) for kind in ("deployments", "rayservices", "secrets", "networkpolicies")}
    assert left == {kind: [] for kind in left}


def copies(cluster: Cluster, mode: str) -> Any:
    """How many copies of the model the cluster was told to run."""
    if mode == "standalone":
        return cluster.objects("deployments")["demo-xuanyuan"]["spec"]["replicas"]
    spec = cluster.objects("rayservices")["demo-xuanyuan"]["spec"]
    return spec["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"]


def test_from_one_mode_to_the_other_and_with_everything_on(cluster: Cluster) -> None:
    """Weights that were fetched outlive the release; what a mode does not need goes."""
    gpu = str(CHART / "ci" / "gpu-values.yaml")
    keda = str(CHART / "ci" / "keda-values.yaml")
    cluster.helm("install", "demo", str(CHART), "--values", gpu, "--values", keda, *WAIT)
    assert list(cluster.objects("scaledobjects")) == ["demo-xuanyuan"]
    off = "metrics.serviceMonitor.enabled=false"
    cluster.helm("upgrade", "demo", str(CHART), "--values", gpu, "--values", keda, "--set", f"mode=ray,{off}", *WAIT)
    assert list(cluster.objects("rayservices")) == ["demo-xuanyuan"]
    assert list(cluster.objects("deployments")) == list(cluster.objects("scaledobjects")) == []
    cluster.helm("uninstall", "demo", "--wait")
    assert list(cluster.objects("persistentvolumeclaims")) == ["demo-xuanyuan-weights"]


def test_an_upgrade_that_is_refused_changes_nothing(cluster: Cluster) -> None:
    cluster.helm("install", "demo", str(CHART), *WAIT)
    before = cluster.objects("deployments")["demo-xuanyuan"]["spec"]
    done = run(cluster.program, "upgrade", "demo", str(CHART), "--set", "config.drainTimeout=100", env=cluster.env)
    assert done.returncode != 0
    assert "values.termination.gracePeriodSeconds" in done.stderr
    assert cluster.objects("deployments")["demo-xuanyuan"]["spec"] == before
