"""The programs of Helm 3 and 4. They come with two Python packages and stay in .tools; without them the tests skip."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helm.chart import CRDS, KUBE_TOOLS, ROOT

LAYERS = {"helm3": "v32", "helm4": "v37"}


@pytest.fixture(scope="session", params=list(LAYERS))
def helm(request: pytest.FixtureRequest) -> Path:
    """`helm`, of both versions."""
    return program(request.param)


@pytest.fixture(scope="session")
def helm4() -> Path:
    """`helm` of the newest version."""
    return program("helm4")


def program(name: str) -> Path:
    """The program, fetched once into .tools."""
    folder = ROOT / ".tools" / name
    if not (folder / "helm").exists():
        if not KUBE_TOOLS.exists():
            pytest.skip(f"no {name}: {KUBE_TOOLS} is not here")
        command = [sys.executable, "-B", str(KUBE_TOOLS / "get_helm.py"), str(folder), "--layer", LAYERS[name]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"no {name}: {done.stderr.strip()[-300:]}")
    return folder / "helm"


@pytest.fixture(scope="session")
def kube_tools() -> Path:
    """The folder of the checks of manifests, importable."""
    if not (KUBE_TOOLS.exists() and CRDS.exists()):
        pytest.skip(f"{KUBE_TOOLS} and {CRDS} are not here")
    if str(KUBE_TOOLS) not in sys.path:
        sys.path.append(str(KUBE_TOOLS))
    return KUBE_TOOLS
