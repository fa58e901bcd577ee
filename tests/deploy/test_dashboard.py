"""The dashboard: what its description says, in Grafana's own model, with queries that Prometheus parses."""

import enum
import json
import sys
import types
import typing
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.files import DASHBOARD, DEPLOY, needs, rules, run

BOARD = json.loads(DASHBOARD.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]


def test_it_is_what_its_description_makes() -> None:
    made = run(sys.executable, DEPLOY / "dashboard" / "make.py")
    assert made.stdout == DASHBOARD.read_text(), (
        "python deploy/dashboard/make.py > helm/xuanyuan/dashboards/xuanyuan.json"
    )


def through_grafana(board: dict[str, Any]) -> tuple[Dashboard, Any]:
    """The board as Grafana's model reads it, and as that model writes it again."""
    register_default_plugins()
    read = Dashboard.from_json(board)
    return read, json.loads(JSONEncoder(sort_keys=True).encode(read))


def lost(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where a value of ours did not come through: a key that the model does not know, or reads as something else."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from lost(value, theirs.get(key), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(mine, its, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path}: {ours!r} became {theirs!r}"


def wrong(value: Any, hint: Any, path: str = "") -> Iterator[str]:
    """Where a value is not of the type that the model says."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object) or isinstance(hint, typing.TypeVar):
        # What depends on the kind of panel is read into the model of that kind.
        if type(value).__module__.startswith("grafana"):
            yield from wrong_fields(value, path)
    elif origin in (typing.Union, types.UnionType):
        kinds = [one for one in inner if one is not types.NoneType]
        chosen = [one for one in kinds if one is type(value)] or kinds
        if value is None and len(kinds) < len(inner):
            return
        faults = [list(wrong(value, one, path)) for one in chosen]
        if all(faults):
            yield from faults[0]
    elif origin is typing.Literal:
        if value not in inner:
            yield f"{path}: {value!r} is none of {inner}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: {value!r} is no list"
            return
        for index, item in enumerate(value):
            yield from wrong(item, inner[0], f"{path}[{index}]")
    elif origin is dict or hint is dict:
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no mapping"
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value not in list(hint) and value not in [one.value for one in hint]:
            yield f"{path}: {value!r} is none of {[one.value for one in hint]}"
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{path}: {value!r} is no number"
    elif isinstance(hint, type):
        if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
            yield f"{path}: {value!r} is no {hint.__name__}"
        elif hint.__module__.startswith("grafana"):
            yield from wrong_fields(value, path)


def wrong_fields(thing: Any, path: str) -> Iterator[str]:
    """The same for every field of one of the model's objects."""
    for name, hint in typing.get_type_hints(type(thing)).items():
        yield from wrong(getattr(thing, name), hint, f"{path}.{name}")


def test_grafanas_model_takes_all_of_it() -> None:
    read, written = through_grafana(BOARD)
    assert list(lost(BOARD, written)) == []
    assert list(wrong_fields(read, "")) == []


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda board: board.update(nonsense=1), "nonsense"),
        (lambda board: board["panels"][1].update(heigth=8), "heigth"),
        (lambda board: board["panels"][1]["fieldConfig"]["defaults"].update(units="s"), "units"),
        (lambda board: board["panels"][1]["options"].update(colourMode="value"), "colourMode"),
        (lambda board: board["panels"][1]["targets"][0].update(expression="up"), "expression"),
        (lambda board: board.update(title=7), "title"),
        (lambda board: board["panels"][1].update(gridPos={"x": "0", "y": 0, "w": 8, "h": 7}), "grid_pos"),
        (lambda board: board["panels"][1]["options"].update(colorMode="rainbow"), "color_mode"),
    ],
)
def test_a_mistake_in_it_is_found(spoil: Any, where: str) -> None:
    board = json.loads(DASHBOARD.read_text())
    spoil(board)
    read, written = through_grafana(board)
    assert any(where in fault for fault in [*lost(board, written), *wrong_fields(read, "")])


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for one, other in combinations([panel["gridPos"] for panel in BOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in BOARD["panels"])


def test_its_rows_are_what_an_operator_asks() -> None:
    rows = [panel["title"] for panel in BOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Is it up?",
        "Is it fast?",
        "Is it full?",
        "Who uses it?",
        "Is the template attacked?",
        "Ray",
    ]


def test_the_objectives_shown_are_those_of_the_alerts() -> None:
    bounds = "".join(rule["expr"] for rule in rules("record") if rule["record"] == "xuanyuan:slo_bad:rate5m")
    for panel, shown, bound in (
        ("First token", "vector(1)", 'le=~"1|1.0"'),
        ("Time per token after the first", "vector(0.1)", 'le="0.1"'),
    ):
        (found,) = [one for one in PANELS if one["title"] == panel]
        assert shown in [target["expr"] for target in found["targets"]] and bound in bounds


@needs("promtool", "prometheus")
def test_prometheus_parses_every_query(tmp_path: Path) -> None:
    def put_in(expr: str) -> str:
        for name, value in (("$__rate_interval", "1m"), ("$__range", "1h"), ("$namespace", ".*"), ("$job", ".*")):
            expr = expr.replace(name, value)
        return expr

    listed = [{"record": f"query:{index}", "expr": put_in(target["expr"])} for index, target in enumerate(TARGETS)]
    assert not any("$" in rule["expr"] for rule in listed)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": listed}]}))
    checked = run("promtool", "check", "rules", tmp_path / "rules.yaml")
    assert checked.returncode == 0, checked.stderr
