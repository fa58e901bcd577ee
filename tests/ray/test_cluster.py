"""Placement only, on a real Ray: clusters that declare GPUs, and the placement groups that the application asks for.

No engine starts. `build` makes the real Serve application; what its deployment asks for is put on the cluster.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from serving.config import ServingConfig
from serving.ray.environment import local_environment, serve_environment
from serving.ray.session import free_ports
from tests.ray.ray_process import RayProcess
from tests.server_process import xuanyuan

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
# In a process of its own: Ray keeps threads, and its libraries warn.
PROGRAM = textwrap.dedent(
    """
    import dataclasses, json, logging, sys
    import ray
    from ray.cluster_utils import Cluster
    from ray.util import placement_group, placement_group_table, remove_placement_group
    from serving.config import ServingConfig
    from serving.launch import Prepared
    from serving.ray import session
    from serving.ray.application import build
    from serving.ray.nodes import cluster_hardware, plan_on_cluster, replica_cpus
    from serving.ray.placement import placement_of, refusal
    from tests.ray.test_placement import EIGHT_BIT, FOUR_BIT, SEVENTY

    cluster = Cluster()
    card = {"accelerator_type:A100-80G": 1}
    cluster.add_node(num_cpus=4, num_gpus=0)
    for _ in range(2):
        cluster.add_node(num_cpus=16, num_gpus=8, resources=card)
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    nodes = session.nodes()
    cases = {
        "6B-4bit x 16": (FOUR_BIT, {"replicas": 16}),
        "6B-8bit x 4": (EIGHT_BIT, {"replicas": 4}),
        "70B tensor 8": (SEVENTY, {"tensor_parallel_size": 8}),
        "70B tensor 8 x pipeline 2": (SEVENTY, {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}),
        "6B-4bit x 17": (FOUR_BIT, {"replicas": 17}),
    }
    found = {}
    for name, (checkpoint, settings) in cases.items():
        config = ServingConfig(**settings)
        plan = plan_on_cluster(config, checkpoint, cluster_hardware(config, nodes), 2)
        placement = placement_of(plan, config.replicas, replica_cpus(config, plan, nodes))
        spec = dataclasses.make_dataclass("Spec", ["args", "env"])((
            "--model", "x", "--tensor-parallel-size", str(plan.tensor_parallel_size),
            "--pipeline-parallel-size", str(plan.pipeline_parallel_size)), {})
        application = build(Prepared(config, checkpoint, plan, spec), placement)
        options = application._bound_deployment._replica_config
        bundles, strategy = options.placement_group_bundles, options.placement_group_strategy
        groups = [placement_group(bundles, strategy=strategy) for _ in range(config.replicas)]
        ready = [bool(group.wait(10 if index < 16 else 2)) for index, group in enumerate(groups)]
        tables = [placement_group_table(group) for group, ok in zip(groups, ready) if ok]
        spread = [len(set(table["bundles_to_node_id"].values())) for table in tables]
        found[name] = {"bundles": [{k: v for k, v in b.items() if v} for b in bundles], "strategy": strategy,
                       "ready": sum(ready), "machines": sorted(set(spread)), "refusal": refusal(placement, nodes)}
        for group in groups:
            remove_placement_group(group)
    print(json.dumps(found))
    """
)


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    folder = tmp_path_factory.mktemp("declared")
    env = {**os.environ, **serve_environment(ServingConfig(), folder), **local_environment(folder, free_ports(3))}
    # Ray's sockets need a shorter path than the tests' folder.
    env["RAY_TMPDIR"] = "/tmp"
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


GPU, FIRST = {"GPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("name", "bundles", "strategy", "ready", "machines"),
    [
        ("6B-4bit x 16", [FIRST], "STRICT_PACK", 16, [1]),
        ("6B-8bit x 4", [FIRST], "STRICT_PACK", 4, [1]),
        ("70B tensor 8", [FIRST, *[GPU] * 7], "STRICT_PACK", 1, [1]),
        ("70B tensor 8 x pipeline 2", [FIRST, *[GPU] * 15], "PACK", 1, [2]),
    ],
)
def test_the_groups_that_are_asked_for_find_their_place(  # type: ignore[no-untyped-def]
    placed, name: str, bundles: list[dict[str, float]], strategy: str, ready: int, machines: list[int]
) -> None:
    expected = {"bundles": bundles, "strategy": strategy, "ready": ready, "machines": machines, "refusal": ""}
    assert placed[name] == expected


def test_what_ray_cannot_place_is_refused(placed) -> None:  # type: ignore[no-untyped-def]
    assert placed["6B-4bit x 17"]["ready"] == 16
    assert "it has room for 16: use --replicas 16" in str(placed["6B-4bit x 17"]["refusal"])


def test_more_replicas_than_the_machine_has_cores_are_refused_within_seconds(tmp_path: Path) -> None:
    """From the moment that Ray is there: what it has can only then be known."""
    server = RayProcess(["--replicas", "200"], tmp_path)
    try:
        assert server.process.wait(120) == 3, server.screen()
    finally:
        server.stop()
    assert "placement: 200 replicas, each 1 x {CPU: 1}, is what was asked for; the cluster has" in server.screen()
    assert "--wait-for-resources" in server.screen()
    assert "Traceback" not in server.screen()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--pipeline-parallel-size", "2"], 2, "vLLM's CPU engine dies at the first request"),
        (["--ray-address", "nowhere"], 2, "ray_address='nowhere': expected HOST:PORT"),
        (["--ray-address", "127.0.0.1:9"], 3, "ray_address='127.0.0.1:9': nothing answers there"),
        (["--autoscale", "2"], 2, "expected MIN:MAX"),
        (["--api-server-count", "2"], 2, "on Ray use replicas"),
        (["--host", "0.0.0.0"], 2, "would let anybody on the network ask"),
        (["--", "--ssl-certfile", "x"], 2, "TLS ends at the proxy in front"),
        (["--", "--no-such-flag"], 2, "vLLM refused an argument given after --"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused(args: list[str], code: int, words: str) -> None:
    done = xuanyuan("serve", "--ray", "--port", "18999", *args, timeout=120)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_root_cause_of_a_failed_start_is_the_last_thing_said(tmp_path: Path) -> None:
    server = RayProcess(["--", "--block-size", "16"], tmp_path)
    try:
        assert server.process.wait(240) == 3, server.screen()
    finally:
        server.stop()
    last = [line for line in server.screen().splitlines() if line.startswith("xuanyuan:")]
    assert len(last) == 1 and "No common block size for 16" in last[0], server.screen()
    assert server.screen().splitlines()[-1].strip().startswith("The replicas' logs:")
    assert "Traceback" not in server.screen()


def test_the_settings_are_checked_alike() -> None:
    assert ServingConfig(ray=True, autoscale="1:3").autoscale == "1:3"
