"""What each stage demands of a node of a cluster: cores, a GPU, and for stages that time something the node to itself.

Nodes that may time stages carry the custom resource `timing: 1`, and are all of one kind, so that latencies compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from compress.core.errors import ResourceError
from compress.recipe.schema import Stage
from compress.search.jobs import is_timed, may_use_gpu, needs_gpu

TIMING = "timing"  # the custom resource
SHARE = 0.001  # of it, for stages that need the kind of machine and not the machine to themselves
TIMING_HINT = """start the nodes that may time stages, all of one kind, with: ray start ... --resources='{"timing": 1}'"""


@dataclass(frozen=True)
class Node:
    """A node of the cluster. `kind` is a digest of its processor: nodes of one kind give comparable latencies."""

    id: str
    name: str
    cpus: float
    gpus: float
    timing: float
    kind: str


@dataclass(frozen=True)
class Demand:
    """What a stage needs of the node that runs it; `cpus` is also its number of threads."""

    cpus: int
    gpus: int = 0
    resources: dict[str, float] = field(default_factory=dict)

    def fits(self, node: Node) -> bool:
        """Return whether a node, all of it free, can run the stage."""
        return node.cpus >= self.cpus and node.gpus >= self.gpus and node.timing >= self.resources.get(TIMING, 0)


def demand_of(stage: Stage, nodes: Sequence[Node]) -> Demand:
    """Return what a stage demands of these nodes.

    A stage that times something takes a whole timing node. Another stage whose result is bound to the machine goes to a timing node,
    too, if there are any. A stage without a GPU gets as many cores as the smallest node has: with the same number of threads
    everywhere, its result does not depend on the node.

    Raises:
        ResourceError: no node can run it.
    """
    timed, timers = is_timed(stage), [node for node in nodes if node.timing >= 1]
    if timed and not timers:
        raise ResourceError(f"stage {stage.name} measures time, and no node of the cluster has the resource '{TIMING}'", TIMING_HINT)
    on_timers = timed or (stage.verb.machine_bound and bool(timers))
    if on_timers:
        check_one_kind(timers)
    candidates = timers if on_timers else nodes
    gpu = may_use_gpu(stage) and any(node.gpus >= 1 for node in candidates)
    if needs_gpu(stage) and not gpu:
        if timed or not any(node.gpus >= 1 for node in nodes):
            raise ResourceError(f"stage {stage.name} needs a GPU, and no node{f' with the resource {TIMING}' * timed} has one")
        candidates, gpu, on_timers = nodes, True, False
    if gpu:
        candidates = [node for node in candidates if node.gpus >= 1]
    if timed:
        return Demand(_whole(max(node.cpus for node in candidates)), int(gpu), {TIMING: 1})
    cpus = min(node.cpus // node.gpus for node in candidates) if gpu else min(node.cpus for node in nodes)
    return Demand(_whole(cpus), int(gpu), {TIMING: SHARE} if on_timers else {})


def _whole(cpus: float) -> int:
    return max(1, int(cpus))


def check_one_kind(timers: Sequence[Node]) -> None:
    """Check that the nodes that time stages are of one kind.

    Raises:
        ResourceError: they are not.
    """
    first = timers[0]
    other = next((node for node in timers if node.kind != first.kind), None)
    if other is not None:
        raise ResourceError(
            f"nodes {first.name} and {other.name} have the resource '{TIMING}' and different processors: latencies would not compare",
            "give it to nodes of one kind only",
        )
