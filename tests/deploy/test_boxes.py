"""Single boxes: the compose files, the systemd unit, and the configuration of Prometheus and Alertmanager."""

import re
import shutil
from pathlib import Path

import pytest

from serving.config import FIELDS, ServingConfig
from serving.errors import EXIT_CONFIGURATION, EXIT_ENGINE_DIED
from serving.guard.settings import environ_name
from tests.deploy.files import ALERTS, DEPLOY, SCRIPTS, load, needs, run

COMPOSE = load(DEPLOY / "compose.yaml")
UNIT = DEPLOY / "systemd" / "xuanyuan.service"
UNITS = Path("/lib/systemd/system")
systemd = needs("systemd-analyze", "systemd")


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_files_fit_the_specification(name: str) -> None:
    checked = run(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)
    assert checked.returncode == 0, checked.stdout


def test_a_mistake_in_a_compose_file_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "compose.yaml"
    bad.write_text((DEPLOY / "compose.yaml").read_text().replace("stop_grace_period", "stop_grace_time"))
    checked = run(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", bad)
    assert checked.returncode == 1 and "stop_grace_time" in checked.stdout


def test_every_setting_in_compose_exists() -> None:
    known = {environ_name(name) for name in FIELDS}
    used = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    assert used and used <= known


def test_every_container_is_hardened() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_nothing_listens_on_the_network_unless_asked() -> None:
    for service in COMPOSE["services"].values():
        assert all(
            port.startswith(("127.0.0.1:", "${XUANYUAN_ADDRESS:-127.0.0.1}:")) for port in service.get("ports", [])
        )


def test_there_is_time_to_drain() -> None:
    drain = ServingConfig().drain_timeout
    assert int(COMPOSE["services"]["xuanyuan"]["stop_grace_period"].removesuffix("s")) >= drain + 20
    assert int(setting("TimeoutStopSec")) >= drain + 20


def setting(name: str) -> str:
    """The value of one line of the unit."""
    (value,) = re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text())
    return str(value)


def test_a_dead_engine_is_restarted_and_a_bad_configuration_is_not() -> None:
    assert setting("Restart") == "on-failure"
    assert setting("RestartForceExitStatus") == str(EXIT_ENGINE_DIED)
    assert setting("RestartPreventExitStatus") == str(EXIT_CONFIGURATION)


@systemd
@pytest.mark.skipif(not UNITS.exists(), reason=f"no {UNITS}")
@pytest.mark.parametrize("more", ["", "KillMod=mixed\n"], ids=["as it is", "with a mistake"])
def test_systemd_verifies_the_unit(tmp_path: Path, more: str) -> None:
    program = tmp_path / "opt" / "xuanyuan" / ".venv" / "bin" / "xuanyuan"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    for pattern in ("*.target", "*.slice"):
        for unit in UNITS.glob(pattern):
            shutil.copy(unit, tmp_path / "usr/lib/systemd/system")
    (tmp_path / "etc/systemd/system/xuanyuan.service.d").mkdir(parents=True)
    text = UNIT.read_text().replace("[Service]\n", f"[Service]\n{more}")
    (tmp_path / "etc/systemd/system/xuanyuan.service").write_text(text)
    shutil.copy(DEPLOY / "systemd/gpu.conf", tmp_path / "etc/systemd/system/xuanyuan.service.d/gpu.conf")
    verified = run("systemd-analyze", "verify", f"--root={tmp_path}", "xuanyuan.service")
    assert verified.returncode == 0
    assert ("Unknown key 'KillMod'" in verified.stderr) if more else (verified.stderr == "")


@systemd
def test_systemd_finds_little_exposed() -> None:
    judged = run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", UNIT)
    assert judged.returncode == 0, judged.stdout[-400:]


@pytest.fixture
def prometheus(tmp_path: Path) -> Path:
    """A folder like the one that Prometheus finds its files in."""
    shutil.copy(DEPLOY / "prometheus" / "prometheus.yml", tmp_path)
    shutil.copy(ALERTS / "rules.yaml", tmp_path)
    (tmp_path / "metrics-key").write_text("key")
    return tmp_path


@needs("promtool", "prometheus")
def test_prometheus_takes_its_configuration(prometheus: Path) -> None:
    checked = run("promtool", "check", "config", prometheus / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs("amtool", "prometheus-alertmanager")
def test_alertmanager_takes_its_configuration() -> None:
    checked = run("amtool", "check-config", DEPLOY / "prometheus" / "alertmanager.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs("amtool", "prometheus-alertmanager")
@pytest.mark.parametrize("severity", ["critical", "warning"])
def test_every_severity_reaches_somebody(severity: str) -> None:
    file = f"--config.file={DEPLOY / 'prometheus' / 'alertmanager.yml'}"
    routed = run("amtool", "config", "routes", "test", file, f"severity={severity}", "alertname=XuanYuanEngineDead")
    assert routed.stdout.strip() == "operators"
