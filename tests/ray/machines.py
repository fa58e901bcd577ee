"""A Ray cluster of several machines on this one: network namespaces with addresses of their own on one bridge."""

import os
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from serving.config import ServingConfig
from serving.ray.environment import serve_environment

BRIDGE, NET = "xyray0", "10.77.0"
GCS_PORT, HTTP_PORT = 6390, 8000
RAY = str(Path(sys.executable).parent / "ray")


def run(*words: str) -> None:
    """One command that must succeed."""
    subprocess.run(words, check=True, capture_output=True)


def can() -> bool:
    """Whether namespaces can be made here: it takes root and iproute2."""
    with suppress(OSError, subprocess.CalledProcessError):
        run("ip", "netns", "add", "xyray-probe")
        run("ip", "netns", "del", "xyray-probe")
        return True
    return False


class Machines:
    """`count` namespaces, in each a Ray node of one CPU; the first is the head. The test is a host beside them."""

    def __init__(self, count: int, folder: Path) -> None:
        self.names = [f"xyray{number}" for number in range(1, count + 1)]
        token = folder / "auth_token"
        token.write_text(secrets.token_hex(32))
        self.env = {**os.environ, **serve_environment(ServingConfig(), Path(f"/tmp/xyray-{os.getpid()}"))}
        self.env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.out = (folder / "ray.out").open("ab")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{NET}.254/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for name in self.names:
            self.plug_in(name)

    def plug_in(self, name: str) -> None:
        """Make a namespace with an address on the bridge."""
        outer = f"{name}h"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", outer, "master", BRIDGE, "up")
        run("ip", "-n", name, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "route", "add", "default", "via", f"{NET}.254")

    def address(self, name: str) -> str:
        return f"{NET}.{self.names.index(name) + 1}"

    @property
    def gcs(self) -> str:
        return f"{self.address(self.names[0])}:{GCS_PORT}"

    def url(self, name: str) -> str:
        return f"http://{self.address(name)}:{HTTP_PORT}"

    def start_ray(self, name: str) -> None:
        """A Ray node in the foreground of a process of ours."""
        role = ["--head", f"--port={GCS_PORT}", "--include-dashboard=false"]
        if name != self.names[0]:
            role = [f"--address={self.gcs}"]
        common = [
            f"--node-ip-address={self.address(name)}",
            "--num-cpus=1",
            "--object-store-memory=100000000",
            "--block",
        ]
        command = ["ip", "netns", "exec", name, RAY, "start", *role, *common]
        self.nodes[name] = subprocess.Popen(
            command, env=self.env, stdout=self.out, stderr=subprocess.STDOUT, start_new_session=True
        )
        time.sleep(8)

    def processes(self, name: str) -> list[psutil.Process]:
        """All that runs in a namespace."""
        done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
        found = []
        for word in done.stdout.split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(word)))
        return found

    def kill_raylet(self, name: str) -> None:
        """SIGKILL."""
        for process in self.processes(name):
            with suppress(psutil.NoSuchProcess):
                if process.name() == "raylet":
                    process.kill()

    def cut(self, name: str) -> None:
        """The machine loses its power: nothing of it is heard any more, not even a goodbye."""
        run("ip", "link", "set", f"{name}h", "down")
        for process in self.processes(name):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def remove(self) -> None:
        """End all and leave nothing."""
        for name in self.names:
            for process in self.processes(name):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        for node in self.nodes.values():
            node.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
        self.out.close()
