"""Two outside judges: checkov of what the chart renders, helm-doctor of the chart. Each exception has its reason here.

Both live in an environment of their own, for they bring much: `python -m venv .tools/judges && .tools/judges/bin/pip
install checkov helm-doctor`. Without it these tests skip.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import CHART, CI_VALUES, ROOT, ci_values, name_of, render, run

JUDGES = ROOT / ".tools" / "judges" / "bin"
# What checkov asks for, what kind of object that is meant, and why it is not done.
CHECKOV = {
    "CKV_K8S_8": "the test's pod ends by itself after one question: there is nothing to probe",
    "CKV_K8S_9": "likewise",
    "CKV_K8S_11": "a limit of CPU is a value, empty beside a GPU: throttling there delays every token",
    "CKV_K8S_15": "a tag is never moved, and a node that has the image needs no registry; image.pullPolicy is a value",
    "CKV_K8S_35": "the guard's keys are a file; the hub's clients and the test read theirs from a variable",
    "CKV_K8S_40": "where security.runAsUser is 0 the platform assigns the user, a high one",
    "CKV_K8S_43": "a digest is known only where an image was pushed: image.digest takes it",
}
# What helm-doctor asks for, and why it is not done.
DOCTOR = {
    "HD-C017": "the project has no address for mail",
    "HD-C020": "nor a picture",
    "HD-T008": "its pattern for a deprecated function finds the field `template` of a Deployment",
    "HD-T009": "it wants apiVersion from .Capabilities: of each kind there is one version in all clusters from 1.27 on",
    "HD-T013": "it reads templates without rendering them: resources come from the pod's helper (test_hardening)",
    "HD-T014": "likewise the ServiceAccount (test_everything_that_is_named_is_there)",
    "HD-T017": "it misses `with include …` and `if include …`: all helpers are used (test_no_helper_is_idle)",
    "HD-V005": "grafana_dashboard is the label that Grafana's sidecar looks for",
    "HD-V020": "what makes a pod safe is not a value: no values can loosen it (test_pod_security_restricted)",
    "HD-V022": "likewise for the container",
    "HD-V026": "it looks for probes at the top: they are values under `probes`",
    "HD-V031": "no token is mounted, whatever the values say (test_hardening)",
    "HD-V034": "it looks for topologySpreadConstraints: the value is topologySpread, and on",
    "HD-X002": "the licence is the repository's, at its root",
}


@pytest.fixture(scope="module")
def judge() -> Path:
    """The folder of the programs."""
    if not (JUDGES / "checkov").exists():
        pytest.skip(f"no checkov in {JUDGES}: its own environment is not here")
    return JUDGES


@pytest.mark.slow
def test_checkov(judge: Path, tmp_path: Path) -> None:
    """Every shape at once: what it complains of is exactly what is argued above."""
    for path in CI_VALUES:
        documents = render(ci_values(name_of(path)), namespace="llm")
        (tmp_path / f"{name_of(path)}.yaml").write_text(yaml.safe_dump_all(documents))
    words = [
        "--directory",
        str(tmp_path),
        "--framework",
        "kubernetes",
        "--skip-download",
        "--output",
        "json",
        "--quiet",
    ]
    done = run(judge / "checkov", *words, env=os.environ, timeout=170)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 1000
    failed = {(check["check_id"], check["check_name"]) for check in report["results"]["failed_checks"]}
    assert {check for check, _ in failed} == set(CHECKOV), sorted(failed)


@pytest.mark.slow
def test_helm_doctor(judge: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run(judge / "helm-doctor", "scan", str(CHART), "--export", "json", "--output", str(report), env=os.environ)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(report.read_text())["issues"]
    assert {issue["rule_id"] for issue in found} == set(DOCTOR), found
    assert {issue["rule_id"] for issue in found if issue["severity"] in ("high", "critical")} == {"HD-T013"}


def test_no_helper_is_idle() -> None:
    """Every named template is included somewhere."""
    texts = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").rglob("*.*"))
    defined = re.findall(r'define "([^"]+)"', texts)
    assert len(defined) > 20
    assert [name for name in defined if f'include "{name}"' not in texts] == []
