"""What a deployment asks of a Ray cluster, whether the cluster has it, and how to say so. Pure arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.plan import Plan

Resources = Mapping[str, float]
# Of a node's resources, those that a person thinks in.
SHOWN = ("CPU", "GPU")


@dataclass(frozen=True)
class Node:
    """One machine of the cluster: its address, all it has, and what nobody has taken."""

    address: str
    total: Resources
    free: Resources


@dataclass(frozen=True)
class Placement:
    """What is asked for: `replicas` times a placement group of these bundles. STRICT_PACK: each on one machine."""

    replicas: int
    bundles: tuple[Resources, ...]
    strategy: str

    @property
    def text(self) -> str:
        """In words: "2 replicas, each of 1 bundle of {CPU: 1} on one machine"."""
        kinds: dict[str, int] = {}
        for bundle in self.bundles:
            kinds[show(bundle)] = kinds.get(show(bundle), 0) + 1
        parts = " + ".join(f"{count} x {kind}" for kind, count in kinds.items())
        where = " on one machine" if self.strategy == "STRICT_PACK" and len(self.bundles) > 1 else ""
        return f"{self.replicas} {'replica' if self.replicas == 1 else 'replicas'}, each {parts}{where}"


def placement_of(plan: Plan, replicas: int, cpus: float) -> Placement:
    """The placement of a plan. `cpus`: what a replica takes beside its GPUs, or in all where there are none.

    Tensor parallelism talks at every layer, so its ranks stay on one machine; pipeline stages may be on several, and
    PACK fills one machine after the other. On a CPU all ranks are processes of one replica.
    """
    if plan.device == "cpu":
        return Placement(replicas, ({"CPU": cpus},), "STRICT_PACK")
    first, rest = {"CPU": cpus, "GPU": 1.0}, {"GPU": 1.0}
    bundles = (first, *(rest for _ in range(plan.devices - 1)))
    return Placement(replicas, bundles, "STRICT_PACK" if plan.pipeline_parallel_size == 1 else "PACK")


def room(placement: Placement, nodes: Sequence[Resources]) -> int:
    """How many of the replicas fit on machines with these resources, put one after the other as Ray does."""
    left = [dict(node) for node in nodes]
    for placed in range(placement.replicas):
        after = place_one(placement, left)
        if after is None:
            return placed
        left = after
    return placement.replicas


def place_one(placement: Placement, nodes: list[dict[str, float]]) -> list[dict[str, float]] | None:
    """The machines' resources after one replica was put on them, or None if it fits nowhere."""
    if placement.strategy == "STRICT_PACK":
        whole = sum_of(placement.bundles)
        for index, node in enumerate(nodes):
            if fits(whole, node):
                return [*nodes[:index], minus(node, whole), *nodes[index + 1 :]]
        return None
    # PACK: fill the machine with most room first.
    left = sorted(nodes, key=lambda node: -node.get("GPU", 0.0))
    for bundle in placement.bundles:
        found = next((node for node in left if fits(bundle, node)), None)
        if found is None:
            return None
        left = [minus(node, bundle) if node is found else node for node in left]
    return left


def refusal(placement: Placement, nodes: Sequence[Node]) -> str:
    """Why the placement cannot be had now, in one text; '' if it can."""
    if room(placement, [node.free for node in nodes]) == placement.replicas:
        return ""
    ever = room(placement, [node.total for node in nodes])
    has = "\n".join(f"  {node.address}: {show(node.total)}, free {show(node.free)}" for node in nodes)
    if ever == placement.replicas:
        remedy = "it has room once what runs there has ended: stop that, or wait with --wait-for-resources"
    elif ever:
        remedy = f"it has room for {ever}: use --replicas {ever}, or add machines and wait with --wait-for-resources"
    else:
        remedy = "it has no machine for even one: add machines and wait with --wait-for-resources, or ask for less"
    return f"placement: {placement.text}, is what was asked for; the cluster has\n{has or '  no machine'}\n  {remedy}"


def sum_of(bundles: Sequence[Resources]) -> dict[str, float]:
    """All bundles together."""
    names = {name for bundle in bundles for name in bundle}
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names}


def fits(asked: Resources, node: Resources) -> bool:
    """Whether a machine has all that is asked. Ray counts in ten-thousandths."""
    return all(amount <= node.get(name, 0.0) + 1e-4 for name, amount in asked.items())


def minus(node: Resources, taken: Resources) -> dict[str, float]:
    """What a machine has left."""
    return {name: amount - taken.get(name, 0.0) for name, amount in node.items()}


def show(resources: Resources) -> str:
    """ "{CPU: 1, GPU: 8}": what a person thinks in."""
    return "{" + ", ".join(f"{name}: {resources.get(name, 0.0):g}" for name in SHOWN if name in resources) + "}"
