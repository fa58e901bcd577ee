"""Several machines: replicas spread over them, a machine dies, service goes on; and a rolling update under load."""

import asyncio
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.ray.load import BROKEN, GOOD, HUNG, TOLD, WRONG, Load
from tests.ray.machines import HTTP_PORT, Machines, can
from tests.ray.ray_process import ROUTER, small_args
from tests.server_process import XUANYUAN

pytestmark = [
    pytest.mark.engine,
    pytest.mark.ray,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not can(), reason="network namespaces need root and iproute2"),
]
REPLICA = re.compile(r"ray::ServeReplica:xuanyuan")
CLIENTS = 20


class Deployment:
    """`xuanyuan serve --ray --ray-address …` on the head."""

    def __init__(self, machines: Machines, folder: Path, name: str, *args: str) -> None:
        self.screen_file = folder / f"{name}.txt"
        words = ["ip", "netns", "exec", machines.names[0], XUANYUAN, "serve", "--ray", "--ray-address", machines.gcs]
        words += ["--host", "0.0.0.0", "--allow-anonymous", "--port", str(HTTP_PORT), "--log-format", "none"]
        words += ["--engine-log", str(folder / f"{name}.log"), *args]
        with self.screen_file.open("w") as screen:
            self.process = subprocess.Popen(
                words, env=machines.env, stdout=screen, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_ready(self, seconds: float = 280) -> "Deployment":
        deadline = time.monotonic() + seconds
        while "Ready after" not in self.screen():
            assert self.process.poll() is None, self.screen()
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.2)
        return self

    def screen(self) -> str:
        return self.screen_file.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    machines = Machines(3, tmp_path_factory.mktemp("machines"))
    try:
        for name in machines.names:
            machines.start_ray(name)
        yield machines
    finally:
        machines.remove()


def where(machines: Machines) -> list[str]:
    """The machines that have a replica."""
    return [
        name
        for name in machines.names
        for process in machines.processes(name)
        if REPLICA.search(" ".join(process.cmdline())) and ROUTER not in " ".join(process.cmdline())
    ]


def answers(url: str) -> bool:
    """Whether requests get through there: a machine's proxy comes a moment after its replica."""
    try:
        return httpx.get(f"{url}/health", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def small(checkpoint: Path) -> list[str]:
    args = small_args(checkpoint)
    return [*args, "--replicas", "2", "--kv-cache-memory-bytes", "150000000"]


async def loaded(url: str, event: "asyncio.Future[None] | None", work: object) -> Load:
    """The load around a piece of work, which runs in a thread."""
    load = Load(url, "small", clients=CLIENTS)
    await load.learn()
    async with load.running():
        await asyncio.sleep(3)
        await asyncio.to_thread(work)  # type: ignore[arg-type]
        await asyncio.sleep(3)
    return load


def test_machines_die_and_configurations_change_while_service_goes_on(
    machines: Machines, small_checkpoint: Path, tmp_path: Path
) -> None:
    first = Deployment(machines, tmp_path, "first", *small(small_checkpoint)).wait_ready()
    url = machines.url(machines.names[0])
    assert len(set(where(machines))) == 2
    for name in set(where(machines)):
        assert httpx.get(f"{machines.url(name)}/v1/models", timeout=10).status_code == 200

    # A rolling update of the configuration: no failed request.
    second: list[Deployment] = []

    def update() -> None:
        second.append(
            Deployment(machines, tmp_path, "second", *small(small_checkpoint), "--max-tokens", "500").wait_ready()
        )

    load = asyncio.run(loaded(url, None, update))
    print("update", load.count(), load.failures())
    assert set(load.count()) == {GOOD}, load.failures()
    refused = httpx.post(f"{url}/v1/completions", json={"model": "small", "prompt": "a", "max_tokens": 501}, timeout=30)
    assert (refused.status_code, "max_tokens" in refused.text) == (400, True)

    # A machine with a replica dies; the third takes its place.
    victim = next(name for name in where(machines) if name != machines.names[0])
    killed_at = [0.0, 0.0]

    def kill() -> None:
        killed_at[0] = time.monotonic()
        machines.kill_raylet(victim)
        while True:
            time.sleep(0.5)
            left = set(where(machines)) - {victim}
            if len(left) == 2 and all(answers(machines.url(name)) for name in left):
                break
            assert time.monotonic() - killed_at[0] < 240, second[0].screen()
        killed_at[1] = time.monotonic() - killed_at[0]

    load = asyncio.run(loaded(url, None, kill))
    late = load.count(since=killed_at[0] + 15)
    print("machine", victim, "back after", round(killed_at[1], 1), load.count(), load.failures(), "later", late)
    counts = load.count()
    assert counts[WRONG] == counts[HUNG] == 0
    assert counts[TOLD] + counts[BROKEN] <= CLIENTS, load.failures()
    assert set(late) == {GOOD}
    assert second[0].stop() == 0, second[0].screen()
    first.process.kill()
    first.process.wait()
