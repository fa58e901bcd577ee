"""The chart, rendered: by Helm's own library (milliseconds) or by the programs of Helm 3 and 4."""

import functools
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "xuanyuan"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
SHARED = ROOT.parent / "shared"
CRDS = SHARED / "crds"
KUBE_TOOLS = SHARED / "tools" / "kube"
OLDEST, NEWEST = "1.27", "1.37"
Document = dict[str, Any]


def name_of(path: Path) -> str:
    """ "gpu-4bit" of ci/gpu-4bit-values.yaml."""
    return path.name.removesuffix("-values.yaml")


def ci_values(name: str) -> Document:
    """The values of one ci file."""
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text(encoding="utf-8")) or {}


def render(
    values: Mapping[str, Any] | None = None, *, name: str = "demo", namespace: str = "default"
) -> list[Document]:
    """All documents of the chart with these values. Raises HelmError where Helm refuses them."""
    found = loaded().render(dict(values or {}), name=name, namespace=namespace)
    return [document for path, text in sorted(found.items()) if path.endswith(".yaml") for document in load(text)]


@functools.cache
def loaded() -> helm_python.Chart:
    """The chart, read once."""
    return helm_python.Chart.load(str(CHART))


def load(text: str) -> list[Document]:
    """The documents of a manifest."""
    return [document for document in yaml.load_all(text, Loader) if document]


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML that refuses a key twice in a mapping, as Kubernetes' own parser does."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key twice: {keys}"
        return super().construct_mapping(node, deep)


def one(documents: list[Document], kind: str, suffix: str = "") -> Document:
    """The one document of a kind whose name ends with `suffix`."""
    (found,) = [document for document in of_kind(documents, kind) if document["metadata"]["name"].endswith(suffix)]
    return found


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    """The documents of a kind."""
    return [document for document in documents if document["kind"] == kind]


def pod_specs(node: Any) -> Iterator[Document]:
    """Every pod spec in a document, wherever it is."""
    if isinstance(node, dict):
        if isinstance(node.get("containers"), list):
            yield node
        for child in node.values():
            yield from pod_specs(child)
    elif isinstance(node, list):
        for child in node:
            yield from pod_specs(child)


def settings(documents: list[Document]) -> dict[str, str]:
    """The XUANYUAN_ variables that the chart gives its containers."""
    found: dict[str, str] = next(
        document["data"]
        for document in of_kind(documents, "ConfigMap")
        if any("XUANYUAN_" in key for key in document["data"])
    )
    return found


def run(
    program: Path, *words: str, env: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run helm or kubectl."""
    return subprocess.run(
        [str(program), *words], capture_output=True, text=True, env=env, timeout=timeout, stdin=subprocess.DEVNULL
    )
