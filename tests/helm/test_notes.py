"""What the notes tell a user to do is right for the values given: names, ports, keys, and the shell takes it."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.helm.chart import CHART, CI_VALUES, ci_values, name_of, of_kind, one, render, run


@pytest.fixture(scope="module", params=CI_VALUES, ids=name_of)
def notes(request: pytest.FixtureRequest, helm4: Path) -> tuple[str, str]:
    """The name of a ci values file and what an installation with it says."""
    words = ["install", "demo", str(CHART), "--values", str(request.param), "--dry-run=client", "--namespace", "llm"]
    done = run(helm4, *words)
    assert done.returncode == 0, done.stderr
    return name_of(request.param), done.stdout.partition("\nNOTES:\n")[2]


def test_the_names_and_ports_are_those_of_the_objects(notes: tuple[str, str]) -> None:
    name, text = notes
    documents = render(ci_values(name), namespace="llm")
    made = {(document["kind"].lower(), document["metadata"]["name"]) for document in documents}
    if of_kind(documents, "RayService"):
        made.add(("service", one(documents, "RayService")["spec"]["serveService"]["metadata"]["name"]))
    named = re.findall(r"\b(deployment|rayservice|service|secret)[/ ]((?:demo|team)[-a-z0-9]*)", text)
    assert named
    assert {item for item in named if item[1].startswith("demo")} <= made
    assert all("-n llm" in line for line in text.splitlines() if "kubectl" in line or "helm test" in line)
    if "port-forward" in text:
        assert re.search(r"8000:(\d+)", text)[1] == "8000"  # type: ignore[index]


def test_keys_are_asked_for_where_there_are_some(notes: tuple[str, str]) -> None:
    name, text = notes
    asks = [line for line in text.splitlines() if "curl" in line]
    assert len(asks) == 2
    anonymous = name == "anonymous"
    assert all(("Authorization" in line) is not anonymous for line in asks)
    assert ("Anybody who reaches" in text) is anonymous
    assert ("secret demo-xuanyuan-api-keys" in text) is (name not in ("anonymous", "keys", "texts"))


def test_a_base_model_is_asked_for_a_completion(notes: tuple[str, str]) -> None:
    name, text = notes
    assert ("/v1/chat/completions" in text) is (name != "base")


def test_the_shell_takes_the_commands(notes: tuple[str, str]) -> None:
    _, text = notes
    commands = "\n".join(line for line in text.splitlines() if line.startswith("   "))
    assert subprocess.run(["bash", "-n"], input=commands, capture_output=True, text=True).stderr == ""


def test_what_is_said_of_weights(notes: tuple[str, str]) -> None:
    name, text = notes
    values = ci_values(name)
    fetched = bool(values.get("config", {}).get("model")) and values.get("weights", {}).get("download", True)
    assert ("-c weights -f" in text) is bool(fetched)
    assert ("Each pod fetches the weights anew" in text) is (name == "mig")
