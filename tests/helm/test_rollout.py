"""A rollout drops nothing: the chart's own command, probes and preStop under load, as kubelet would run them."""

import base64
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import Document, of_kind, one, render
from tests.helm.container import from_pod
from tests.helm.kubelet import Clients, Pod, Service, roll, wait_ready

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(900)]

CLIENTS = 20
# A start on a busy machine with both servers on it.
START_SECONDS = 400.0


def free_port() -> int:
    """A port that is free on two addresses of loopback."""
    with socket.create_server(("127.0.0.2", 0)) as taken:
        return int(taken.getsockname()[1])


def test_no_request_fails_while_a_new_pod_takes_over(tmp_path: Path) -> None:
    """20 clients that keep their connections and never try again: no failure, and nothing was killed."""
    port = free_port()
    small: dict[str, Any] = {"maxModelLen": 1024, "maxNumSeqs": 32, "kvCacheMemoryBytes": 2**28, "enforceEager": True}
    documents = render({"config": small | {"port": port}})
    spec = one(documents, "Deployment")["spec"]["template"]["spec"]
    key = base64.b64decode(one(documents, "Secret", "-api-keys")["data"]["api-key"]).decode()
    service = Service()
    pods = [Pod(documents, spec, "127.0.0.2", tmp_path / "old")]
    try:
        wait_ready(pods[0], START_SECONDS)
        service.endpoints.append(pods[0])
        with Clients(service.port, key, CLIENTS) as clients:
            pods.append(Pod(documents, spec, "127.0.0.3", tmp_path / "new"))
            roll(service, pods[0], pods[1], START_SECONDS)
            before = clients.answers
            clients.stopped.wait(5)
        assert clients.failures == []
        assert service.refused == 0
        # Both have served, and the new one alone in the end.
        assert clients.answers > before > 0
        assert set(service.connections) == {"127.0.0.2", "127.0.0.3"}
        assert (pods[0].exit_code, pods[0].killed) == (0, False)
        assert [pod.restarts for pod in pods] == [0, 0]
        assert "cut off" not in pods[0].screen.read_text()
        helm_test(documents, service, tmp_path)
    finally:
        service.close()
        for pod in pods:
            pod.kill()


def helm_test(documents: list[Document], service: Service, folder: Path) -> None:
    """What `helm test` runs in its pod gets a real answer from the model."""
    (pod,) = of_kind(documents, "Pod")
    asking = from_pod(documents, pod["spec"], folder / "test")
    argv = [f"http://127.0.0.1:{service.port}" if word.startswith("http://") else word for word in asking.argv]
    done = subprocess.run(argv, env=asking.env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3
