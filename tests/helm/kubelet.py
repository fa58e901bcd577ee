"""What a cluster does with a Deployment's pods, without a cluster: kubelet's part and the Service's.

A pod is the container's own command as a process, at an address of its own on loopback. It is asked by the probes that
the chart renders and stopped as kubelet stops one: preStop, SIGTERM, and SIGKILL when the grace period is over. The
Service passes connections on, each for its whole life to one pod that was ready when it came, as kube-proxy does.
"""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from tests.helm.chart import Document
from tests.helm.container import from_pod

# How long load balancers take to learn of a change.
PROPAGATION_SECONDS = 2.0


class Pod:
    """One pod of the Deployment, from its start to its end."""

    def __init__(self, documents: list[Document], spec: Document, address: str, folder: Path) -> None:
        self.spec = spec
        (self.container,) = spec["containers"]
        self.address = address
        started = from_pod(documents, spec, folder)
        self.port = self.container["ports"][0]["containerPort"]
        self.screen = folder / "screen.txt"
        self.env = started.env | {"XUANYUAN_HOST": address}
        self.ready = False
        self.restarts = 0
        self.killed = False
        self.exit_code: int | None = None
        self.terminating = threading.Event()
        with self.screen.open("w") as screen:
            self.process = subprocess.Popen(
                started.argv,
                env=self.env,
                stdout=screen,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.prober = threading.Thread(target=self.probe, daemon=True)
        self.prober.start()

    def probe(self) -> None:
        """Startup until it succeeds, then readiness and liveness, until the pod is to go."""
        startup = self.container["startupProbe"]
        failures = 0
        while not self.asked(startup):
            failures += 1
            if failures >= startup["failureThreshold"]:
                self.restarts += 1
                return
            if self.terminating.wait(startup["periodSeconds"]):
                return
        counts = {"readinessProbe": 0, "livenessProbe": 0}
        due = dict.fromkeys(counts, time.monotonic())
        while not self.terminating.wait(0.2):
            for name in counts:
                if time.monotonic() >= due[name]:
                    due[name] = time.monotonic() + self.container[name]["periodSeconds"]
                    self.judge(name, counts)

    def judge(self, name: str, counts: dict[str, int]) -> None:
        """Ask one probe, and do what its answer means."""
        good = self.asked(self.container[name])
        counts[name] = 0 if good else counts[name] + 1
        failed = counts[name] >= self.container[name]["failureThreshold"]
        if name == "livenessProbe":
            self.restarts += failed
        elif good or failed:
            self.ready = good

    def asked(self, probe: Document) -> bool:
        """Whether an httpGet probe succeeds: a status from 200 to 399 in time."""
        url = f"http://{self.address}:{self.port}{probe['httpGet']['path']}"
        try:
            with urllib.request.urlopen(url, timeout=probe["timeoutSeconds"]) as answer:
                return 200 <= answer.status < 400
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        """preStop, SIGTERM, and after the grace period SIGKILL."""
        self.terminating.set()
        self.ready = False
        deadline = time.monotonic() + self.spec["terminationGracePeriodSeconds"]
        subprocess.run(self.container["lifecycle"]["preStop"]["exec"]["command"], env=self.env, check=True)
        self.process.terminate()
        try:
            self.exit_code = self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.killed = True
            self.kill()

    def kill(self) -> None:
        """Nothing of it is left."""
        self.terminating.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@dataclass
class Service:
    """An address that passes each connection on to one of the pods behind it."""

    endpoints: list[Pod] = field(default_factory=list)
    # How many connections each pod got, by its address, and how often there was no pod to take one.
    connections: dict[str, int] = field(default_factory=dict)
    refused: int = 0

    def __post_init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Take connections until the end."""
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client: socket.socket) -> None:
        """Choose a pod for a connection, and join the two."""
        try:
            pod = random.choice(list(self.endpoints))
            server = socket.create_connection((pod.address, pod.port), timeout=10)
        except (IndexError, OSError):
            self.refused += 1
            client.close()
            return
        self.connections[pod.address] = self.connections.get(pod.address, 0) + 1
        with client, server:
            for end in (client, server):
                end.settimeout(None)
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()

    def close(self) -> None:
        """Take no more."""
        self.listening.close()


def copy(source: socket.socket, target: socket.socket) -> None:
    """Bytes from one end to the other; the end of one is the end of the other."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def roll(service: Service, old: Pod, new: Pod, timeout: float) -> None:
    """A rolling update with maxUnavailable 0: the new pod is ready before the old one is told to go."""
    wait_ready(new, timeout)
    time.sleep(PROPAGATION_SECONDS)
    service.endpoints.append(new)
    # Kubernetes tells kubelet and load balancers at the same time; the latter act later.
    goodbye = threading.Timer(PROPAGATION_SECONDS, service.endpoints.remove, [old])
    goodbye.start()
    old.stop()
    goodbye.join()


def wait_ready(pod: Pod, timeout: float) -> None:
    """Return when its readiness probe succeeds; fail with its output when it ends or takes too long."""
    deadline = time.monotonic() + timeout
    while not pod.ready:
        assert pod.process.poll() is None, f"exit code {pod.process.returncode}:\n{pod.screen.read_text()}"
        assert not pod.restarts, f"kubelet would start it again:\n{pod.screen.read_text()}"
        assert time.monotonic() < deadline, f"not ready after {timeout} s:\n{pod.screen.read_text()}"
        time.sleep(0.2)


@dataclass
class Clients:
    """Clients that ask all the time, each over one connection that it keeps, without a second try."""

    port: int
    key: str
    count: int
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Clients":
        self.threads = [threading.Thread(target=self.ask_on, args=(number,)) for number in range(self.count)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(120)

    def ask_on(self, number: int) -> None:
        """Ask until told to stop. Every second client streams."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while not self.stopped.is_set():
            try:
                problem = ask(connection, self.key, stream=bool(number % 2))
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
                connection.close()
            if problem:
                self.failures.append(f"{time.strftime('%X')} client {number}: {problem}")
            else:
                self.answers += 1
            self.stopped.wait(random.uniform(0, 0.5))
        connection.close()


def ask(connection: http.client.HTTPConnection, key: str, *, stream: bool) -> str:
    """One question; "" or what is wrong with the answer."""
    body = {"model": "SmolLM2-135M-Instruct", "max_tokens": 12, "ignore_eos": True, "stream": stream}
    body["messages"] = [{"role": "user", "content": "What is a stock?"}]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        return f"status {answer.status}: {content[:200]!r}"
    if stream:
        whole = content.rstrip().endswith(b"data: [DONE]") and b'"error"' not in content
        return "" if whole else f"a stream that ends with {content[-200:]!r}"
    return "" if json.loads(content)["choices"][0]["message"]["content"] else "an empty answer"
