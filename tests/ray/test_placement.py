"""Placement only: what is asked of clusters that are not here, and how a refusal reads. No Ray and no engine."""

import pytest

from serving.config import ServingConfig
from serving.errors import ConfigError, DoesNotFitError
from serving.hardware import declared
from serving.plan import make_plan
from serving.ray.nodes import card_name, cluster_hardware, nodes_of, plan_on_cluster, replica_cpus
from serving.ray.placement import Node, Placement, place_one, placement_of, refusal, room
from tests.plan_models import GPTQ, LLM_INT8, SEVENTY, SIX, model

GPU_NODE = {"CPU": 64.0, "GPU": 8.0, "accelerator_type:A100": 1.0, "accelerator_type:A100-80G": 1.0}
TWO_OF_EIGHT = [Node("10.0.0.1", GPU_NODE, GPU_NODE), Node("10.0.0.2", GPU_NODE, GPU_NODE)]
ONE_GPU = ({"CPU": 1.0, "GPU": 1.0},)
EIGHT = ({"CPU": 1.0, "GPU": 1.0}, *[{"GPU": 1.0}] * 7)
SIXTEEN = ({"CPU": 1.0, "GPU": 1.0}, *[{"GPU": 1.0}] * 15)
FOUR_BIT = model("XuanYuan-6B-Chat-4bit", quantization=GPTQ)
EIGHT_BIT = model("XuanYuan-6B-Chat-8bit", quantization=LLM_INT8)


@pytest.mark.parametrize(
    ("checkpoint", "settings", "expected"),
    [
        (FOUR_BIT, {"replicas": 16}, Placement(16, ONE_GPU, "STRICT_PACK")),
        (EIGHT_BIT, {"replicas": 4}, Placement(4, ONE_GPU, "STRICT_PACK")),
        (SEVENTY, {"tensor_parallel_size": 8}, Placement(1, EIGHT, "STRICT_PACK")),
        (SEVENTY, {"tensor_parallel_size": 8, "replicas": 2}, Placement(2, EIGHT, "STRICT_PACK")),
        (
            SEVENTY,
            {"tensor_parallel_size": 8, "pipeline_parallel_size": 2},
            Placement(1, SIXTEEN, "PACK"),
        ),
    ],
    ids=["6B-4bit x 16", "6B-8bit x 4", "70B tensor 8", "70B tensor 8 x 2", "70B tensor 8 x pipeline 2"],
)
def test_what_is_asked_of_two_machines_of_eight_gpus(checkpoint, settings, expected) -> None:  # type: ignore[no-untyped-def]
    config = ServingConfig(**settings)
    hardware = cluster_hardware(config, TWO_OF_EIGHT)
    assert hardware.gpus[0].name == "A100-80G"
    plan = plan_on_cluster(config, checkpoint, hardware, len(TWO_OF_EIGHT))
    placement = placement_of(plan, config.replicas, replica_cpus(config, plan, TWO_OF_EIGHT))
    assert placement == expected
    assert refusal(placement, TWO_OF_EIGHT) == ""


def test_what_fits_one_machine_stays_on_it_and_what_does_not_gets_stages_across() -> None:
    small = declared("A30", 4)
    one = plan_on_cluster(ServingConfig(), SIX, small, 2)
    assert (one.tensor_parallel_size, one.pipeline_parallel_size) == (1, 1)
    across = plan_on_cluster(ServingConfig(), SEVENTY, small, 2)
    assert (across.tensor_parallel_size, across.pipeline_parallel_size) == (4, 2)
    with pytest.raises(DoesNotFitError):
        plan_on_cluster(ServingConfig(), SEVENTY, small, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tensor_parallel_size": 16}, "tensor_parallel_size=16: expected at most 8, the GPUs of one machine"),
        ({"tensor_parallel_size": 8, "pipeline_parallel_size": 4}, "= 32, but there are 16 GPUs"),
    ],
)
def test_parallel_sizes_that_the_cluster_lacks_are_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_on_cluster(ServingConfig(**settings), SEVENTY, declared("A100-80G", 8), 2)


def test_eight_bit_checkpoints_are_not_cut() -> None:
    with pytest.raises(ConfigError, match="bitsandbytes checkpoints cannot be cut; they scale by replicas"):
        plan_on_cluster(ServingConfig(tensor_parallel_size=2), EIGHT_BIT, declared("A100-80G", 8), 2)


def test_pipeline_stages_on_a_cpu_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="vLLM's CPU engine dies at the first request"):
        make_plan(SIX, declared(cpu_memory=100 << 30), pipeline_parallel_size=2)


def test_replicas_fill_machines_one_after_the_other() -> None:
    nodes = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 3.0}]
    assert room(Placement(9, ONE_GPU, "STRICT_PACK"), nodes) == 5
    pair = ({"CPU": 1.0, "GPU": 1.0}, {"GPU": 1.0})
    assert room(Placement(9, pair, "STRICT_PACK"), nodes) == 2
    assert room(Placement(9, ({"CPU": 3.0, "GPU": 1.0},), "STRICT_PACK"), nodes) == 2
    after = place_one(Placement(1, (*pair, {"GPU": 1.0}, {"GPU": 1.0}), "PACK"), nodes)
    assert after is not None
    assert sorted(node["GPU"] for node in after) == [0.0, 1.0]


BUSY = [Node("10.0.0.1", GPU_NODE, {"CPU": 60.0, "GPU": 1.0})]


@pytest.mark.parametrize(
    ("placement", "nodes", "words"),
    [
        (
            Placement(1, EIGHT, "STRICT_PACK"),
            BUSY,
            (
                "1 replica, each 1 x {CPU: 1, GPU: 1} + 7 x {GPU: 1} on one machine",
                "10.0.0.1: {CPU: 64, GPU: 8}, free {CPU: 60, GPU: 1}",
                "once what runs there has ended",
            ),
        ),
        (
            Placement(20, ONE_GPU, "STRICT_PACK"),
            TWO_OF_EIGHT,
            ("20 replicas, each 1 x {CPU: 1, GPU: 1}", "room for 16: use --replicas 16"),
        ),
        (Placement(1, SIXTEEN, "STRICT_PACK"), TWO_OF_EIGHT, ("no machine for even one", "--wait-for-resources")),
        (Placement(1, ONE_GPU, "STRICT_PACK"), [], ("no machine",)),
    ],
    ids=["busy", "too many", "none is large enough", "empty"],
)
def test_a_refusal_says_what_was_asked_and_what_there_is(
    placement: Placement, nodes: list[Node], words: tuple[str, ...]
) -> None:
    text = refusal(placement, nodes)
    assert all(word in text for word in words), text


def test_a_card_that_ray_does_not_name_must_be_named() -> None:
    nameless = [Node("10.0.0.1", {"CPU": 8.0, "GPU": 8.0}, {})]
    with pytest.raises(ConfigError, match="ray_gpu: the cluster's GPU is not named by Ray"):
        card_name(ServingConfig(), nameless)
    assert card_name(ServingConfig(ray_gpu="A800-80G"), nameless) == "A800-80G"
    mixed = [*TWO_OF_EIGHT, Node("10.0.0.3", {"GPU": 1.0, "accelerator_type:T4": 1.0}, {})]
    with pytest.raises(ConfigError, match=r"several kinds \(A100-80G, T4\)"):
        card_name(ServingConfig(), mixed)
    with pytest.raises(ConfigError, match="no machine of the Ray cluster has a GPU"):
        cluster_hardware(ServingConfig(device="cuda"), [Node("10.0.0.1", {"CPU": 8.0}, {})])


def test_nodes_that_died_do_not_count_and_what_is_used_up_is_zero() -> None:
    records = [
        {"Alive": True, "NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "NodeID": "b", "NodeManagerAddress": "10.0.0.2", "Resources": {"CPU": 2.0}},
    ]
    assert nodes_of(records, {"a": {"CPU": 2.0}}) == [
        Node("10.0.0.1", {"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 0.0})
    ]


@pytest.mark.parametrize(("cpus", "replicas", "expected"), [(0.0, 1, 2.0), (0.0, 2, 1.0), (0.0, 3, 1.0), (0.5, 2, 0.5)])
def test_replicas_on_a_cpu_share_its_cores(cpus: float, replicas: int, expected: float) -> None:
    config = ServingConfig(replicas=replicas, replica_cpus=cpus)
    plan = make_plan(SIX, declared(cpu_memory=100 << 30))
    assert replica_cpus(config, plan, [Node("127.0.0.1", {"CPU": 2.0}, {"CPU": 2.0})]) == expected


@pytest.mark.parametrize("text", ["2", "0:2", "3:2", "a:b", "1:", "-1:3"])
def test_autoscale_is_checked(text: str) -> None:
    with pytest.raises(ConfigError, match="expected MIN:MAX"):
        ServingConfig(autoscale=text)
