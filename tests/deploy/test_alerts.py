"""The alert rules: valid, each with a runbook, and each shown to fire and not to fire."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

import chat_template.metrics
import serving.guard.metrics
from serving.config import FIELDS
from tests.deploy.files import ALERTS, DASHBOARD, ROOT, load, needs, rules, run

ALERT_NAMES = [rule["alert"] for rule in rules("alert")]
NAME = re.compile(r"\b(?:vllm|xuanyuan|ray)[:_][a-z0-9_:]+")
promtool = needs("promtool", "prometheus")


@promtool
def test_the_rules_are_valid_and_every_case_holds() -> None:
    checked = run("promtool", "check", "rules", ALERTS / "rules.yaml")
    assert checked.returncode == 0, checked.stderr
    tested = run("promtool", "test", "rules", ALERTS / "rules_test.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def cases_of(alert: str) -> list[dict[str, Any]]:
    """The promtool cases that name the alert."""
    return [test for test in load(ALERTS / "rules_test.yaml")["tests"] if alert in test["name"]]


@promtool
@pytest.mark.live
@pytest.mark.parametrize("alert", ALERT_NAMES)
@pytest.mark.parametrize("expr", ["vector(1)", "vector(0) > 1"], ids=["always", "never"])
def test_a_rule_that_always_or_never_fires_is_found_out(tmp_path: Path, alert: str, expr: str) -> None:
    document = load(ALERTS / "rules.yaml")
    for rule in [rule for group in document["groups"] for rule in group["rules"]]:
        if rule.get("alert") == alert:
            rule["expr"] = expr
            rule.pop("for", None)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document))
    cases = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": cases_of(alert)}
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump(cases))
    tested = run("promtool", "test", "rules", tmp_path / "cases.yaml")
    assert tested.returncode == 1, f"{alert} with {expr} was not noticed"
    assert "FAILED" in tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", rules("alert"), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("XuanYuan")
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert all(len(text) > 20 for text in alert["annotations"].values())


def test_every_alert_has_its_runbook_and_no_other_has() -> None:
    headings = re.findall(r"(?m)^## (XuanYuan\w+)$", (ROOT / "docs" / "runbooks.md").read_text())
    assert sorted(headings) == sorted(ALERT_NAMES)


def test_settings_that_the_runbooks_name_exist() -> None:
    named = {"max_num_seqs", "max_model_len", "gpu_memory_utilization", "kv_cache_memory_bytes", "drain_timeout"}
    named |= {"max_queue_seconds", "rate_limit_failure", "rate_limit_storage", "turn_forgery", "max_tokens"}
    text = "".join(rule["annotations"]["runbook"] + rule["annotations"]["description"] for rule in rules("alert"))
    assert {name for name in named if name in text} == named <= set(FIELDS)


def exported() -> set[str]:
    """The metrics of the guard, of the renderer and of the engine, from their own code."""
    own = {
        name + suffix
        for module in (serving.guard.metrics, chat_template.metrics)
        for metric in vars(module).values()
        if isinstance(metric, MetricWrapperBase)
        for name in [metric._name]
        for suffix in ("", "_total", "_bucket", "_sum", "_count")
    }
    # Read and not imported: that would take seconds.
    found = importlib.util.find_spec("vllm")
    assert found is not None and found.origin is not None
    source = Path(found.origin).with_name("v1") / "metrics" / "loggers.py"
    engines = re.findall(r'"(vllm:\w+)"', source.read_text(encoding="utf-8"))
    return own | {name + suffix for name in engines for suffix in ("", "_total", "_bucket", "_sum", "_count")}


def test_rules_and_dashboard_use_only_what_the_server_exports() -> None:
    recorded = {rule["record"] for rule in rules("record")}
    used = set(NAME.findall("".join(rule["expr"] for rule in rules("alert", "record")) + DASHBOARD.read_text()))
    strangers = {name for name in used - recorded - exported() if not name.startswith("ray_")}
    assert strangers == set()
    assert {name for name in used if name.startswith("ray_")} == {
        "ray_serve_deployment_replica_healthy",
        "ray_serve_deployment_request_counter_total",
        "ray_node_mem_used",
        "ray_node_mem_total",
    }
