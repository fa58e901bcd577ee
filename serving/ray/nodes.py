"""What a Ray cluster is made of, as the planner and the placement see it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from serving.checkpoint import Checkpoint
from serving.config import ServingConfig, parse_autoscale
from serving.errors import ConfigError, DoesNotFitError
from serving.hardware import Hardware, declared, detect
from serving.plan import Plan, plan_for
from serving.ray.placement import Node

# How Ray names a card among a node's resources.
CARD = "accelerator_type:"


def most_replicas(config: ServingConfig) -> int:
    """The most replicas that there will be."""
    return parse_autoscale(config.autoscale)[1] if config.autoscale else config.replicas


def first_replicas(config: ServingConfig) -> int:
    """The replicas that must be there before the service is ready."""
    return parse_autoscale(config.autoscale)[0] if config.autoscale else config.replicas


def cluster_hardware(config: ServingConfig, nodes: Sequence[Node]) -> Hardware:
    """What one replica may be planned on: the cards of the machine that has most of them, or this machine's CPU.

    Ray knows how many cards a machine has and often what they are called, but not their memory: that is gpus.toml's.
    Raises ConfigError where the card is not known.
    """
    cards = max((int(node.total.get("GPU", 0)) for node in nodes), default=0)
    if config.device == "cuda" and not cards:
        raise ConfigError('device: "cuda" was asked for, but no machine of the Ray cluster has a GPU')
    if config.device == "cpu" or not cards:
        return share_of_cpu(detect("cpu"), -(-most_replicas(config) // max(1, len(nodes))), config.replica_cpus)
    return declared(card_name(config, nodes), cards)


def card_name(config: ServingConfig, nodes: Sequence[Node]) -> str:
    """The card's name: ray_gpu, else what Ray calls it. Raises ConfigError for none, or for several kinds."""
    if config.ray_gpu:
        return config.ray_gpu
    found = sorted({name.removeprefix(CARD) for node in nodes for name in node.total if name.startswith(CARD)})
    # Ray gives an A100 of 80 GiB both names.
    names = [name for name in found if not any(other.startswith(f"{name}-") for other in found)]
    if len(names) == 1:
        return names[0]
    what = f"is of several kinds ({', '.join(names)})" if names else "is not named by Ray"
    raise ConfigError(f"ray_gpu: the cluster's GPU {what}: say which to plan for, such as --ray-gpu A800-80G")


def share_of_cpu(hardware: Hardware, replicas: int, cpus: float) -> Hardware:
    """The part of a machine's memory and cores that each of the replicas on it may plan with."""
    cores = cores_of(len(hardware.cpus), replicas, cpus)
    return dataclasses.replace(
        hardware,
        memory_available_bytes=hardware.memory_available_bytes // replicas,
        cpus=hardware.cpus[: max(1, math.floor(cores))],
    )


def cores_of(cores: int, replicas: int, cpus: float) -> float:
    """The CPUs of one replica: what was asked for, else an equal share of whole cores."""
    return cpus or float(max(1, cores // max(1, replicas)))


def replica_cpus(config: ServingConfig, plan: Plan, nodes: Sequence[Node]) -> float:
    """The CPUs that Ray sets aside for a replica."""
    if plan.device != "cpu":
        return config.replica_cpus or 1.0
    cores = max((int(node.total.get("CPU", 0)) for node in nodes), default=1)
    return cores_of(cores, -(-most_replicas(config) // max(1, len(nodes))), config.replica_cpus)


def plan_on_cluster(config: ServingConfig, checkpoint: Checkpoint, hardware: Hardware, machines: int) -> Plan:
    """A plan on one machine, else over several: tensor parallelism within each, pipeline stages across them.

    Raises what `plan_for` raises, of the last try.
    """
    cards = len(hardware.gpus)
    stages = config.pipeline_parallel_size
    wanted = (config.tensor_parallel_size or 1) * (stages or 1)
    if not cards or (wanted <= cards and stages):
        return plan_for(config, checkpoint, hardware)
    if wanted <= cards:
        try:
            return plan_for(config, checkpoint, hardware)
        except DoesNotFitError:
            if machines < 2:
                raise
    if (config.tensor_parallel_size or 1) > cards:
        raise ConfigError(
            f"tensor_parallel_size={config.tensor_parallel_size}: expected at most {cards}, the GPUs of one machine; "
            "across machines use pipeline_parallel_size"
        )
    whole = dataclasses.replace(hardware, gpus=hardware.gpus * machines)
    stages = stages or machines
    if config.tensor_parallel_size or stages * cards == len(whole.gpus):
        tensor = config.tensor_parallel_size or cards
        config = dataclasses.replace(config, tensor_parallel_size=tensor, pipeline_parallel_size=stages)
    return plan_for(config, checkpoint, whole)


def nodes_of(records: Sequence[Mapping[str, object]], free: Mapping[str, Mapping[str, float]]) -> list[Node]:
    """`ray.nodes()` and what is free by node id, as Nodes: those that are alive."""
    found = []
    for record in records:
        if record["Alive"]:
            total = dict(record["Resources"])  # type: ignore[call-overload]
            left = dict(free.get(str(record["NodeID"]), {}))
            # Ray leaves out what is used up.
            left = {name: left.get(name, 0.0) for name in total}
            found.append(Node(str(record["NodeManagerAddress"]), total, left))
    return found
