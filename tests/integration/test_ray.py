"""A sweep on a Ray cluster of two nodes, of which one is killed in the middle, gives what a sweep in one process gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import compress as package
from compress.core.artifacts import read_manifest
from compress.search import space
from compress.search.executor import Executor, JobEvent, LocalExecutor, RecipeOutcome, run_recipes
from compress.search.store import Store
from tests import tiny
from tests.unit.search.recipes import TEACHER, build, write_document

pytest.importorskip("ray", reason="the extra 'ray' is not installed")

STUDENT = {**TEACHER, "do": "distill", "student": "layers=1", "teacher": "teacher"}
STAGES: dict[str, Any] = {
    "teacher": TEACHER,
    "student": {key: value for key, value in STUDENT.items() if key != "from"},
    "proof": {"do": "eval", "from": ["teacher", "student"], "device": "cpu"},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with one core each on this machine; it finds a lost node within seconds."""
    from ray.cluster_utils import Cluster

    paths = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}{os.pathsep}{paths}")
        node = {"num_cpus": 1, "resources": {"timing": 1}, "include_dashboard": False, "object_store_memory": 100 << 20}
        system = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "_system_config": system})
        yield cluster
        cluster.shutdown()


def digests(done: dict[str, RecipeOutcome]) -> dict[str, dict[str, str]]:
    assert [outcome.error for outcome in done.values()] == [None] * len(done)
    return {label: {name: stage.manifest["digest"] for name, stage in outcome.stages.items()} for label, outcome in done.items()}


def test_a_node_that_is_lost_in_the_middle_changes_nothing(cluster: Any, tmp_path: Path) -> None:
    from compress.search.ray_executor import RayExecutor

    document = write_document(tmp_path / "in", STAGES)
    recipes = {f"seed {seed}": build({**document, "seed": seed}) for seed in (0, 1)}
    expected = digests(run_recipes(recipes, Store(tmp_path / "local"), LocalExecutor()))
    second = cluster.add_node(num_cpus=1, resources={"timing": 1}, object_store_memory=100 << 20)
    events: list[JobEvent] = []

    def observe(event: JobEvent) -> None:
        """Kill the second node as soon as both nodes run a stage."""
        events.append(event)
        both = len({event.where for event in events if event.event.kind == "started"}) == 2
        if both and second in cluster.worker_nodes:
            cluster.remove_node(second, allow_graceful=False)

    executor: Executor = RayExecutor(cluster.address)
    try:
        done = run_recipes(recipes, Store(tmp_path / "ray"), executor, observer=observe)
    finally:
        executor.close()
    assert digests(done) == expected
    assert second not in cluster.worker_nodes


def test_a_search_on_two_nodes_gives_the_answer_of_a_local_one(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one thread and one cache of measurements, as on machines of one kind.

    The same models are trained, and the same one answers. Whether in int8 or not is decided by the clock, which times each search anew.
    """
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(space, "UNIT_STEPS", 50)
    second = cluster.add_node(num_cpus=1, resources={"timing": 1}, object_store_memory=100 << 20)
    model, task = tiny.write_encoder(tmp_path / "encoder"), tiny.write_task(tmp_path / "task", 120, 60, 60)
    asked: dict[str, Any] = {"max_drop": 60.0, "budget": "1h", "seq_len": 16, "device": "cpu"}
    local = package.auto(model, task, tmp_path / "local", **asked)
    shared = package.auto(model, task, tmp_path / "ray", ray=cluster.address, **asked)
    cluster.remove_node(second)
    assert shared.kept
    assert shared.answer["candidate"].partition(",")[0] == local.answer["candidate"].partition(",")[0]
    assert trained(tmp_path / "ray" / "stages") == trained(tmp_path / "local" / "stages")


def trained(store: Path) -> dict[str, str]:
    """Return the digests of all trained models of a store."""
    manifests = {folder.name: read_manifest(folder) or {} for verb in ("finetune", "distill") for folder in store.glob(f"{verb}-*")}
    return {name: manifest["digest"] for name, manifest in manifests.items()}
