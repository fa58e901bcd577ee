"""The unit under a real systemd: what is restarted and what is not, and the engine inside all of its hardening.

A systemd of one's own needs no machine booted with it: a user instance, in a mount namespace where /run says it was.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, ROOT
from tests.deploy.watching import fetch, free_port, until
from tests.server_process import XUANYUAN

SYSTEMD = Path("/lib/systemd/systemd")
UNIT = (DEPLOY / "systemd" / "xuanyuan.service").read_text()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a mount namespace"),
    pytest.mark.skipif(not SYSTEMD.exists(), reason="no systemd: apt-get install systemd"),
]
START = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec {systemd} --user
"""


class Manager:
    """A running systemd with its own folder of units."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "SYSTEMD_UNIT_PATH": f"{folder}/units:/usr/lib/systemd/user",
            "SYSTEMD_LOG_TARGET": "console",
        }
        (folder / "run" / "systemd").mkdir(parents=True)
        (folder / "units").mkdir()
        with (folder / "log").open("w") as log:
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", START.format(systemd=SYSTEMD)]
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        until("systemd", lambda: (folder / "run" / "systemd" / "private").exists(), 20)

    def ctl(self, *words: str) -> str:
        """What systemctl prints."""
        done = subprocess.run(
            ["systemctl", "--user", *words], env=self.env, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr + (self.folder / "log").read_text()
        return done.stdout

    def show(self, unit: str) -> dict[str, str]:
        """A unit's state."""
        lines = self.ctl("show", unit, "-p", "NRestarts,ExecMainStatus,ActiveState,Result,MainPID").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def stop(self) -> None:
        """End it and everything in it."""
        subprocess.run(["systemctl", "--user", "exit"], env=self.env, capture_output=True, timeout=100)
        self.process.wait(100)


@pytest.fixture
def manager() -> Iterator[Manager]:
    # Not in /tmp, of which the unit has its own.
    (ROOT / "build").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="systemd-", dir=ROOT / "build"))
    manager = Manager(folder)
    try:
        yield manager
    finally:
        manager.stop()
        shutil.rmtree(folder)


def unit(manager: Manager, name: str, command: str, *, without: str = "") -> None:
    """The project's unit with another command, in the manager's own folders, less the lines that match `without`."""
    text = re.sub(r"(?m)^ExecStart=.*$", f"ExecStart={command}", UNIT)
    # A user's instance cannot become somebody else, and has its folders elsewhere.
    text = re.sub(r"(?m)^(User|Group)=.*\n", "", text)
    # These cover files with what PID 1 makes under /run for that, and a user's instance in a namespace lacks.
    text = re.sub(r"(?m)^Protect(KernelLogs|KernelTunables)=.*\n", "", text).replace(
        "ProtectHome=yes", "ProtectHome=tmpfs"
    )
    text = text.replace("/var/lib/xuanyuan", f"{manager.folder}/.config/xuanyuan")
    text = text.replace("/var/cache/xuanyuan", f"{manager.folder}/.cache/xuanyuan")
    text = text.replace("RestartSec=5", "RestartSec=1")
    if without:
        text = re.sub(rf"(?m)^({without})=.*\n", "", text)
    (manager.folder / "units" / f"{name}.service").write_text(text)
    manager.ctl("daemon-reload")


HARDENING = "Protect.*|Private.*|Restrict(?!art).*|SystemCall.*|CapabilityBoundingSet|AmbientCapabilities|.*Directory.*"


@pytest.mark.parametrize(("code", "again"), [(4, True), (3, True), (2, False), (0, False)])
def test_what_is_started_again(manager: Manager, code: int, again: bool) -> None:
    unit(manager, "ends", f"/bin/sh -c 'exit {code}'", without=HARDENING)
    manager.ctl("start", "ends")
    if again:
        until("a restart", lambda: int(manager.show("ends")["NRestarts"]) >= 2, 20)
        return
    until("its end", lambda: manager.show("ends")["ActiveState"] in ("failed", "inactive"), 10)
    time.sleep(3)
    assert manager.show("ends")["NRestarts"] == "0"
    assert manager.show("ends")["ExecMainStatus"] == str(code)


@pytest.mark.engine
def test_the_hardened_server_answers_and_comes_back_after_its_engine_died(manager: Manager, demo: Path) -> None:
    import psutil

    model = manager.folder / "SmolLM2-135M-Instruct"
    shutil.copytree(demo, model)
    port = free_port()
    unit(manager, "xuanyuan", f"{XUANYUAN} serve {model} --port {port}")
    # Where the checkout itself lies in a folder that the unit hides, it is shown again, to be read.
    text = (manager.folder / "units" / "xuanyuan.service").read_text()
    shown = text.replace("[Install]", f"BindReadOnlyPaths={ROOT} {Path(sys.base_prefix)}\n[Install]")
    (manager.folder / "units" / "xuanyuan.service").write_text(shown)
    manager.ctl("daemon-reload")
    manager.ctl("start", "xuanyuan")

    def ready() -> bool:
        return fetch(f"http://127.0.0.1:{port}/ready") != b""

    try:
        until("ready", ready, 150)
        question = {"model": model.name, "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(question).encode())
        request.add_header("Content-Type", "application/json")
        assert b"Paris" in urllib.request.urlopen(request, timeout=60).read()
        server = psutil.Process(int(manager.show("xuanyuan")["MainPID"]))
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status
        (core,) = [child for child in server.children(recursive=True) if "EngineCore" in " ".join(child.cmdline())]
        core.kill()
        until("a restart", lambda: manager.show("xuanyuan")["NRestarts"] == "1", 30)
        until("ready again", ready, 150)
        manager.ctl("stop", "xuanyuan")
        assert manager.show("xuanyuan")["Result"] == "success"
    except AssertionError:
        print((manager.folder / "log").read_text()[-4000:])
        raise
