"""Real watchers: Prometheus, Alertmanager and Ray Serve as processes, and a webhook that keeps what it gets."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.deploy.files import ALERTS, DEPLOY, load

T = TypeVar("T")
RAY_APP = """
import sys

import ray
from ray import serve

ray.init("local", num_cpus=2, _metrics_export_port=int(sys.argv[1]), include_dashboard=False, log_to_driver=False)


@serve.deployment
class Answer:
    def __call__(self, request):
        return "ok"


serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
serve.run(Answer.bind(), name="xuanyuan")
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def fetch(url: str) -> bytes:
    """The body of a good answer. Raises OSError for any other."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        raise


def until(what: str, ask: Callable[[], T], seconds: float) -> T:
    """The first true value that `ask` gives, asked again and again; errors of the network count as false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := ask():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.3)


@contextmanager
def process(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program for as long as the block lasts."""
    with log.open("wb") as file:
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        yield running
    finally:
        if running.stdin:
            running.stdin.close()
        else:
            running.terminate()
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL for Alertmanager, and the alerts that came there."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alerts", received
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def alertmanager(folder: Path, url: str) -> Iterator[str]:
    """Alertmanager with the project's configuration, sending to `url`. Gives its address."""
    config = load(DEPLOY / "prometheus" / "alertmanager.yml")
    config["receivers"][0]["webhook_configs"][0]["url"] = url
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus-alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/am"]
    command += [f"--web.listen-address={address}", "--cluster.listen-address="]
    with process(command, folder / "alertmanager.log"):
        until("Alertmanager", lambda: fetch(f"http://{address}/-/ready"), 30)
        yield address


class Prometheus:
    """A running one."""

    def __init__(self, url: str) -> None:
        self.url = url

    def value(self, expr: str) -> list[Any]:
        """The samples of an expression now."""
        query = urllib.parse.urlencode({"query": expr})
        return list(json.loads(fetch(f"{self.url}/api/v1/query?{query}"))["data"]["result"])

    def alerts(self, state: str = "firing") -> set[str]:
        """The names of alerts in a state."""
        found = json.loads(fetch(f"{self.url}/api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == state}


@contextmanager
def prometheus(folder: Path, *, server: str, key: str, ray: str, alerts: str) -> Iterator[Prometheus]:
    """Prometheus with the project's configuration and rules, asking every second. Addresses are HOST:PORT."""
    config = load(DEPLOY / "prometheus" / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alerts]}]
    own, cluster = config["scrape_configs"]
    own["static_configs"] = [{"targets": [server]}]
    cluster["static_configs"] = [{"targets": [ray]}]
    del cluster["file_sd_configs"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "metrics-key").write_text(key)
    shutil.copy(ALERTS / "rules.yaml", folder)
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    command += [f"--web.listen-address={address}"]
    with process(command, folder / "prometheus.log"):
        until("Prometheus", lambda: fetch(f"http://{address}/-/ready"), 60)
        yield Prometheus(f"http://{address}")


@contextmanager
def ray_serve(folder: Path) -> Iterator[tuple[str, str]]:
    """A Ray of its own with a small Serve application. Gives the addresses of its metrics and of the application."""
    metrics, http = free_port(), free_port()
    (folder / "ray_app.py").write_text(RAY_APP)
    command = [sys.executable, str(folder / "ray_app.py"), str(metrics), str(http)]
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with process(command, folder / "ray.log", stdin=subprocess.PIPE, env=env):
        yield f"127.0.0.1:{metrics}", f"http://127.0.0.1:{http}/"
