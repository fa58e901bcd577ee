"""Whatever the schema allows renders to YAML that a cluster takes and that says the same as the values, or is refused.

Two ways to make values: any that fit the schema, and awkward texts (quotes, newlines, unicode, very long ones, what
YAML takes for a boolean or a number) at every place where a text may stand.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

from tests.helm.chart import CHART, NEWEST, Document, pod_specs, render
from tests.helm.chart import settings as rendered_settings
from tests.helm.manifests import errors_of, restricted

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
AWKWARD = st.one_of(
    st.sampled_from(
        [
            '"',
            "'",
            "yes",
            "no",
            "on",
            "null",
            "~",
            "1e3",
            "0x10",
            "017",
            "1_000",
            "2024-01-01",
            ": ",
            "# x",
            "- a",
            "{}",
        ]
    ),
    st.sampled_from(
        ["a\nb: c", "x\n---\nkind: Pod", "{{ .Values }}", "{{", "%YAML", "\t", "中文", "🚀", "a" * 3000, "\\", "$(X)"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40),
)
MANY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def narrowed(node: Any) -> Any:
    """The schema for hypothesis: nothing required (a default stands in), and no cycles in Kubernetes' own types."""
    if isinstance(node, dict):
        kept = {key: narrowed(child) for key, child in node.items() if key not in ("required", "description")}
        # Selectors, affinities and variables of Kubernetes have checks of their own; here they stay empty.
        return {"enum": [{}]} if "$ref" in kept else kept
    return [narrowed(child) for child in node] if isinstance(node, list) else node


SECTIONS = {
    name: from_schema(narrowed(schema))
    for name, schema in SCHEMA["properties"].items()
    if name not in ("global", "tolerations", "extraEnv", "networkPolicy", "affinity")
}


def some_values() -> st.SearchStrategy[Document]:
    """A few sections, each as its schema allows."""
    return st.lists(st.sampled_from(sorted(SECTIONS)), min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: SECTIONS[name] for name in names})
    )


@pytest.mark.live
@MANY
@given(values=some_values())
def test_what_the_schema_allows_is_taken_by_a_cluster_or_refused_by_name(kube_tools: Path, values: Document) -> None:
    try:
        documents = render(values)
    except helm_python.HelmError as refusal:
        # A schema cannot say what excludes what: the chart's own words do, and only they.
        assert "values." in str(refusal), str(refusal)
        assert "YAML" not in str(refusal)
        return
    check(documents)


def places(node: Any = DEFAULTS, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every value that is a text or a map of texts."""
    for name, value in node.items():
        if isinstance(value, dict) and value and name != "labels":
            yield from places(value, (*path, name))
        elif isinstance(value, str) or value == {}:
            yield (*path, name)


@pytest.mark.live
@MANY
@given(path=st.sampled_from(list(places())), text=AWKWARD)
def test_awkward_texts(kube_tools: Path, path: tuple[str, ...], text: str) -> None:
    value: Any = {"example.com/x": text} if at(DEFAULTS, path) == {} else text
    values = nested(path, value)
    try:
        documents = render(values)
    except helm_python.HelmError as refusal:
        message = str(refusal)
        assert ".".join(path) in message or "/".join(path) in message, message
        return
    check(documents)
    if path[0] == "config" and text:
        assert text in rendered_settings(documents).values()


@MANY
@given(
    name=st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,51}[a-z0-9])?", fullmatch=True),
    mode=st.sampled_from(["standalone", "ray"]),
)
def test_release_names(kube_tools: Path, name: str, mode: str) -> None:
    """Helm allows 53 characters, digits first and dots; a Service allows less."""
    try:
        documents = render({"mode": mode, "metrics": {"dashboard": {"enabled": True}}}, name=name)
    except helm_python.HelmError as refusal:
        assert "release name" in str(refusal).lower(), str(refusal)
        return
    check(documents)
    assert all(len(document["metadata"]["name"]) <= 63 for document in documents)


def test_long_release_names_stay_apart() -> None:
    first, second = (render(name="x" * 50 + end)[0]["metadata"]["name"] for end in ("-1", "-2"))
    assert first != second


@pytest.mark.parametrize("text", ["yes", "1e3", "null", "0x1F", "12:30:45"])
def test_texts_stay_texts(text: str) -> None:
    documents = render({"podAnnotations": {text: text}, "config": {"revision": text}})
    (pod,) = [item["spec"]["template"] for item in documents if item["kind"] == "Deployment"]
    assert pod["metadata"]["annotations"][text] == text
    assert rendered_settings(documents)["XUANYUAN_REVISION"] == text


def check(documents: list[Document]) -> None:
    """A cluster takes them all, and no value has loosened the pods."""
    allowed = ("volume weights is a hostPath",)
    assert [error for document in documents for error in errors_of(document, NEWEST)] == []
    loosened = [error for document in documents for pod in pod_specs(document) for error in restricted(pod)]
    assert [error for error in loosened if error not in allowed] == []


def nested(path: tuple[str, ...], value: Any) -> Document:
    """{"a": {"b": value}} for ("a", "b")."""
    for name in reversed(path):
        value = {name: value}
    return value


def at(node: Any, path: tuple[str, ...]) -> Any:
    """The value at a path."""
    for name in path:
        node = node[name]
    return node
