"""`xuanyuan serve --ray` looked at from outside: its processes, and the replicas that its proxy knows."""

import csv
import io
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.server_process import ServerProcess

# Titles of Ray's processes, as `ps` shows them.
REPLICA, PROXY, CONTROLLER, ROUTER = "ray::ServeReplica", "ray::HAProxyManager", "ray::ServeController", "LLMRouter"
STATS_PORT = "RAY_SERVE_HAPROXY_STATS_PORT"


def small_args(checkpoint: Path, *more: str, name: str = "small") -> list[str]:
    """`xuanyuan serve`'s arguments for the family's architecture scaled down: exact, and started at once."""
    how = ["--template", "6b", "--dtype", "float32", "--enforce-eager", "--served-model-name", name]
    return [str(checkpoint), *how, *more]


class RayProcess(ServerProcess):
    """A server on a Ray of its own. `wait_ready` takes longer than without Ray: three more programs start."""

    def __init__(self, args: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        super().__init__(["--ray", *args], folder, env)

    def wait_ready(self, timeout: float = 500) -> "RayProcess":
        """Return when it answers."""
        super().wait_ready(timeout)
        return self

    def titled(self, title: str) -> list[psutil.Process]:
        """The processes below the launcher whose title or command has `title` in it."""
        found = []
        for child in self.children():
            try:
                if title in " ".join(child.cmdline()) + child.name():
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def replicas(self) -> list[psutil.Process]:
        """The replicas' processes; the router, a replica of another deployment, is none of them."""
        return [child for child in self.titled(REPLICA) if ROUTER not in " ".join(child.cmdline())]

    def servers_up(self) -> list[str]:
        """The replicas to which the proxy sends requests."""
        port = psutil.Process(self.process.pid).environ()[STATS_PORT]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats;csv", timeout=2) as answer:
                text = answer.read().decode().removeprefix("# ")
        except OSError:
            return []
        rows = csv.DictReader(io.StringIO(text))
        return [
            row["svname"]
            for row in rows
            if row["svname"] not in ("FRONTEND", "BACKEND")
            and row["status"] == "UP"
            and row["bck"] == "0"
            and not row["pxname"].endswith("-via-ingress-request-router")
        ]

    def wait_servers(self, count: int, timeout: float, other_than: Sequence[str] = ()) -> float:
        """Wait until the proxy has `count` replicas, none of `other_than` among them; returns the seconds it took."""
        started = time.monotonic()
        while True:
            up = self.servers_up()
            if len(up) == count and not set(up) & set(other_than):
                return time.monotonic() - started
            assert time.monotonic() - started < timeout, f"{up} after {timeout} s:\n{self.screen()}"
            time.sleep(0.1)

    def memory(self) -> int:
        """Bytes that the launcher and all below it hold for themselves (PSS: what they share is counted once)."""
        total = 0
        for process in [psutil.Process(self.process.pid), *self.children()]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total
