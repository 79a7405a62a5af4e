"""How a sweep's time falls with more machines, and what Ray costs per stage.

`python eval/scaling.py simulate SWEEP/sweep.json` schedules the stages of a finished sweep, with the times that they took, on 1 to 64
nodes. `python eval/scaling.py simulate RUN/manifest.json --grid slim.target_speedup=2,3 --seeds 0 1` takes the times of the stages of one
run for those of a sweep of its recipe. `python eval/scaling.py overhead` measures Ray on this machine.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from compress.core import files
from compress.recipe import load as loading
from compress.search.executor import Executor, LocalExecutor, run_recipes
from compress.search.grid import grid_points, parse_grid
from compress.search.jobs import Job, JobGraph, is_timed, job_graph
from compress.search.store import Store

NODES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Work:
    """A stage to schedule: its seconds, the ids of its inputs, and whether it needs a node that may time stages."""

    seconds: float
    needs: tuple[str, ...] = ()
    timed: bool = False


def makespan(works: Mapping[str, Work], nodes: int, timers: int | None = None, overhead: float = 0.0) -> float:
    """Return the seconds until all stages are finished, by list scheduling.

    A node runs one stage at a time. A free node takes the first stage, in the order of `works`, whose inputs are finished; the bound of
    Graham (1969) for any such order is 2 - 1 / nodes times the optimum.

    Args:
        works: stages by id, inputs first.
        nodes: how many nodes there are.
        timers: how many of them may run stages that are timed; None: all.
        overhead: seconds that each stage takes longer.
    """
    timing = min(nodes, timers or nodes)
    free, waiting, finished = set(range(nodes)), list(works), set[str]()
    running: list[tuple[float, str, int]] = []
    now = 0.0
    while waiting or running:
        for name in list(waiting):
            work = works[name]
            # A stage that may run anywhere leaves the timing nodes to others as long as it can.
            able = [node for node in sorted(free, reverse=True) if node < timing or not work.timed]
            if able and finished.issuperset(work.needs):
                waiting.remove(name)
                free.discard(able[0])
                heapq.heappush(running, (now + work.seconds + overhead, name, able[0]))
        now, name, node = heapq.heappop(running)
        finished.add(name)
        free.add(node)
    return now


def critical_path(works: Mapping[str, Work]) -> float:
    """Return the seconds of the longest chain of stages: no number of nodes is faster."""
    ends: dict[str, float] = {}
    for name, work in works.items():
        ends[name] = work.seconds + max((ends[need] for need in work.needs), default=0.0)
    return max(ends.values())


def recorded(path: Path, grid: Sequence[str], seeds: Sequence[int]) -> dict[str, Work]:
    """Return the stages of a finished sweep, or those of a sweep of a finished run's recipe."""
    document = files.read_json(path)
    if "points" in document:
        return {
            stage["id"]: Work(stage["seconds"], tuple(stage["needs"]), stage["timed"])
            for stage in document["stages"]
            if stage["seconds"] is not None
        }
    recipe, where = loading.read_document(str(path.parent / "recipe.resolved.yaml"))
    stages = recipe["stages"]
    assert isinstance(stages, dict)  # noqa: S101
    # A resolved recipe repeats its seed in every stage; the seeds of the sweep replace it.
    seedless = {name: {key: value for key, value in stage.items() if key != "seed"} for name, stage in stages.items()}
    points = grid_points({**recipe, "stages": seedless}, where, parse_grid(grid), seeds or None)
    graph = job_graph({point.label: point.recipe for point in points})
    return {job.id: _work(job, document["stages"]) for job in graph.jobs.values()}


def _work(job: Job, stages: Mapping[str, Mapping[str, float]]) -> Work:
    return Work(stages[job.name]["seconds"], tuple(job.needs.values()), is_timed(job.stage))


def simulate(arguments: argparse.Namespace) -> None:
    """Print the table of a simulation."""
    works = recorded(arguments.recorded, arguments.grid, arguments.seeds)
    print_schedules(works, arguments)


def print_schedules(
    works: Mapping[str, Work], arguments: argparse.Namespace, heads: str = "| nodes | time, min | speedup | busy, % |"
) -> None:
    """Print the table of a schedule on each number of `arguments.nodes`, with the `timers` and `overhead` of `makespan`."""
    total = sum(work.seconds for work in works.values())
    print(f"{len(works)} stages, {total / 60:.1f} min of work, longest chain {critical_path(works) / 60:.1f} min")
    print(f"{heads}\n|---|---|---|---|")
    one = makespan(works, 1, arguments.timers, arguments.overhead)
    for nodes in arguments.nodes:
        span = makespan(works, nodes, arguments.timers, arguments.overhead)
        print(f"| {nodes} | {span / 60:.1f} | {one / span:.2f} | {100 * total / (nodes * span):.0f} |")


def overhead(arguments: argparse.Namespace) -> None:
    """Measure what Ray takes per stage, with stages that are finished already, and print it as JSON."""
    from compress.search.executors import opened
    from tests import tiny

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        document = {
            "schema": 1,
            "name": "overhead",
            "model": str(tiny.write_checkpoint(folder / "model")),
            "task": tiny.write_task(folder / "task", 12, 6, 6),
            "stages": {"graph": {"do": "export", "from": "model"}, "proof": {"do": "eval", "from": ["model", "graph"]}},
        }
        points = grid_points(document, "overhead", {}, list(range(arguments.points)))
        graph = job_graph({point.label: point.recipe for point in points})
        store = Store(folder / "store")
        run_recipes({point.label: point.recipe for point in points}, store, LocalExecutor())
        measured = {"stages": len(graph.jobs), "local_s_per_stage": _per_stage(graph, LocalExecutor(), folder, arguments.rounds)}
        started = time.perf_counter()
        with opened("local") as executor:
            measured["ray_connect_s"] = time.perf_counter() - started
            started = time.perf_counter()
            executor.run(graph, Store(folder / "store"), lambda event: None)
            measured["ray_first_round_s"] = time.perf_counter() - started
            measured["ray_s_per_stage"] = _per_stage(graph, executor, folder, arguments.rounds)
    print(json.dumps(measured | {"load": os.getloadavg()[0], "rounds": arguments.rounds}, indent=2))


def _per_stage(graph: JobGraph, executor: Executor, folder: Path, rounds: int) -> list[float]:
    """Return the seconds per stage of each round, sorted; all stages are in the store."""
    seconds = []
    for _ in range(rounds):
        store = Store(folder / "store")  # so that every round verifies the files again
        started = time.perf_counter()
        executor.run(graph, store, lambda event: None)
        seconds.append(round((time.perf_counter() - started) / len(graph.jobs), 4))
    return sorted(seconds)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    simulation = commands.add_parser("simulate", help="schedule recorded stages on more nodes")
    simulation.add_argument("recorded", type=Path, help="sweep.json of a sweep, or manifest.json of a run")
    simulation.add_argument("--grid", action="append", default=[], help="for a run: a.b=1,2,3")
    simulation.add_argument("--seeds", type=int, nargs="+", default=[], help="for a run")
    simulation.add_argument("--nodes", type=int, nargs="+", default=NODES)
    simulation.add_argument("--timers", type=int, help="nodes that may time stages; default: all")
    simulation.add_argument("--overhead", type=float, default=0.0, help="seconds per stage")
    simulation.set_defaults(function=simulate)
    measurement = commands.add_parser("overhead", help="measure Ray on this machine")
    measurement.add_argument("--points", type=int, default=20)
    measurement.add_argument("--rounds", type=int, default=5)
    measurement.set_defaults(function=overhead)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
