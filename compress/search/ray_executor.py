"""Runs jobs on a Ray cluster: a task is one stage, its output a folder of the store, which every node sees under the same path.

Outputs are atomic and locked, so a task that is retried, after its node was lost in the middle, finds a finished stage, resumes an
interrupted training, or starts again. Ray is imported when an executor is created.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.core import console, hub
from compress.core.errors import ResourceError
from compress.search import ray_worker
from compress.search.executor import JobEvent, JobObserver, Outcome, blocked
from compress.search.jobs import Job, JobGraph
from compress.search.placement import Demand, demand_of
from compress.search.ray_cluster import cause_of, connect, probed_nodes
from compress.search.store import Store

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorProxy

    BoardActor = ActorProxy[ray_worker.Board]

RETRIES = 5  # of a task whose process or node was lost
POLL_SECONDS = 0.25
REPORT_SECONDS = 10.0  # the board may take to answer
NODES_EVERY_SECONDS = 5.0  # the list of nodes is read


class RayExecutor:
    """Runs jobs on a Ray cluster.

    Args:
        address: as for `connect`, which raises what this does.
    """

    def __init__(self, address: str) -> None:
        self.local = address == "local"
        self._quiet = contextlib.ExitStack()
        # Ray prints what happens to nodes on stdout, where programs expect one JSON document; `look` below reports it.
        self._quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        try:
            self._owned = connect(address)
        except BaseException:
            self._quiet.close()
            raise

    def run(self, graph: JobGraph, store: Store, observer: JobObserver) -> dict[str, Outcome]:
        """Run all jobs, each as soon as its inputs are finished and a node is free.

        Raises:
            ResourceError: no node can run one of them, a node does not see the store, or has other versions.
        """
        nodes = probed_nodes(store.folder, lambda cpus: self._variables(Demand(cpus), store))
        demands = {job.id: demand_of(job.stage, nodes) for job in graph.jobs.values()}
        board = _board()
        refs: dict[str, ObjectRef[Outcome]] = {}
        try:
            for job in graph.jobs.values():
                refs[job.id] = self._submit(job, demands[job.id], store, board, [refs[need] for need in job.needs.values()])
            return _collect(graph, refs, board, observer)
        finally:
            _cancel(refs.values(), board)

    def close(self) -> None:
        """Disconnect; a cluster that this executor started ends."""
        import ray

        try:
            if self._owned:
                ray.shutdown()
        finally:
            self._quiet.close()

    def _submit(
        self, job: Job, demand: Demand, store: Store, board: BoardActor, inputs: Sequence[ObjectRef[Outcome]]
    ) -> ObjectRef[Outcome]:
        import ray

        task = ray.remote(ray_worker.work).options(
            name=f"{job.recipe.name}/{job.name}",
            num_cpus=demand.cpus,
            num_gpus=demand.gpus,
            resources=demand.resources,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": self._variables(demand, store)},
        )
        return task.remote(job, str(store.folder.absolute()), str(Path.cwd()), hub.is_offline(), board, *inputs)

    def _variables(self, demand: Demand, store: Store) -> dict[str, str]:
        """Return the environment of a task: as many threads as cores; on several machines a cache that they share.

        Latency tables and the choice of the precision of training are in that cache, so that all stages use the same ones.
        """
        variables = {"OMP_NUM_THREADS": str(demand.cpus)}
        if not demand.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        if not self.local:
            variables["COMPRESS_CACHE"] = os.environ.get("COMPRESS_CACHE") or str((store.folder / "cache").absolute())
        return variables


def _board() -> BoardActor:
    """Start the board, on this node if possible; if it is lost, it starts again without the events that it held."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(ray_worker.Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()


def _collect(graph: JobGraph, refs: Mapping[str, ObjectRef[Outcome]], board: BoardActor, observer: JobObserver) -> dict[str, Outcome]:
    """Wait for all tasks, reporting their events meanwhile."""
    import ray

    pending = {ref: job for job, ref in refs.items()}
    outcomes: dict[str, Outcome] = {}
    watch = _Nodes()
    while pending:
        done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=POLL_SECONDS)
        _report(graph, board, observer)
        watch.look()
        for ref in done:
            job = graph.jobs[pending.pop(ref)]
            outcomes[job.id] = _outcome(job, ref)
    _report(graph, board, observer)
    ended: dict[str, Outcome] = {}
    for job in graph.jobs.values():
        ended[job.id] = blocked(job, ended) or outcomes[job.id]
    return ended


def _outcome(job: Job, ref: ObjectRef[Outcome]) -> Outcome:
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(ref)
    except RayError as error:
        lost = ResourceError(f"stage {job.name} was lost {RETRIES + 1} times: {cause_of(error)}", "see the logs of the cluster: ray logs")
        return Outcome(error=lost, blocked_by=job.id)


def _report(graph: JobGraph, board: BoardActor, observer: JobObserver) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        events = ray.get(board.drain.remote(), timeout=REPORT_SECONDS)
    except RayError:  # its node was lost: progress is missing for a moment, results are not
        return
    for job, event, where in events:
        observer(JobEvent(graph.jobs[job], event, where))


class _Nodes:
    """Tells when a node is lost."""

    def __init__(self) -> None:
        self._alive: dict[str, str] = {}
        self._next = 0.0

    def look(self) -> None:
        """Compare the nodes with those of the last look, at most every few seconds."""
        import ray

        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + NODES_EVERY_SECONDS
        alive = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        for lost in self._alive.keys() - alive.keys():
            console.warn(f"node {self._alive[lost]} was lost: its stages run again on another one")
        self._alive = alive


def _cancel(refs: Iterable[ObjectRef[Outcome]], board: BoardActor) -> None:
    """Stop what still runs, after an interruption."""
    import ray

    for ref in refs:
        if not ray.wait([ref], timeout=0)[0]:
            ray.cancel(ref, force=True)
    ray.kill(board)  # pyright: ignore[reportArgumentType] (its type is narrower than what it takes)
