"""Where the files of a deployment are, and the tools that check them."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "helm" / "xuanyuan" / "alerts"
DASHBOARD = ROOT / "helm" / "xuanyuan" / "dashboards" / "xuanyuan.json"
DEPLOY = ROOT / "deploy"
SCRIPTS = Path(sys.executable).parent


def load(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules(*kinds: str) -> list[dict[str, Any]]:
    """Every rule of the rules file that is of one of the kinds (`alert`, `record`)."""
    groups = load(ALERTS / "rules.yaml")["groups"]
    return [rule for group in groups for rule in group["rules"] if any(kind in rule for kind in kinds)]


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed, and say how it would be."""
    return pytest.mark.skipif(not shutil.which(program), reason=f"no {program}: apt-get install {package}")


def run(*command: str | Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """One program to its end."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout)
