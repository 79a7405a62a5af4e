"""Stages that recipes have in common are one job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import UsageError
from compress.search.jobs import is_timed, job_graph, may_use_gpu, needs_gpu
from tests.unit.search.recipes import TEACHER, build, write_document

CHAIN: dict[str, Any] = {
    "teacher": TEACHER,
    "slim": {"do": "prune", "from": "teacher", "target_flops": 0.5},
    "graph": {"do": "export", "from": "slim"},
    "proof": {"do": "eval", "from": ["teacher", "graph"]},
    "speed": {"do": "bench", "from": ["teacher", "graph"]},
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_document(tmp_path_factory.mktemp("inputs"), CHAIN)


def test_shared_stages_are_one_job(document: dict[str, Any]) -> None:
    graph = job_graph({"a": build(document), "b": build(document, slim={"target_flops": 0.25}), "again": build(document)})
    assert len(graph.jobs) == 5 + 4
    assert graph.job_of["a"] == graph.job_of["again"]
    assert graph.job_of["a"]["teacher"] == graph.job_of["b"]["teacher"]
    assert not {*graph.job_of["a"].values()} & {*graph.job_of["b"].values()} - {graph.job_of["a"]["teacher"]}


def test_inputs_come_first(document: dict[str, Any]) -> None:
    graph = job_graph({"a": build(document), "b": build({**document, "seed": 9})})
    seen: set[str] = set()
    for job in graph.jobs.values():
        assert set(job.needs.values()) <= seen
        seen.add(job.id)
    assert {len(graph.jobs[job].needs) for job in graph.job_of["a"].values()} == {0, 1, 2}


def test_another_seed_model_or_task_is_another_job(document: dict[str, Any]) -> None:
    task = {**document["task"], "max_length": 16}
    others = [{**document, "seed": 9}, {**document, "model": "builtin:minilm-l6"}, {**document, "task": task}]
    recipes = {str(number): build(other) for number, other in enumerate([document, *others])}
    assert len(job_graph(recipes).jobs) == 4 * 5


def test_only_what_is_needed_is_a_job(document: dict[str, Any]) -> None:
    assert list(job_graph({"a": build(document)}, ["graph"]).job_of["a"]) == ["teacher", "slim", "graph"]
    with pytest.raises(UsageError, match="nothing to run"):
        job_graph({})


@pytest.mark.parametrize(
    ("stage", "fields", "timed"),
    [
        ("speed", {}, True),
        ("proof", {}, False),
        ("teacher", {}, False),
        ("teacher", {"epochs": None, "budget": "5m"}, True),
        ("slim", {}, False),
        ("slim", {"target_flops": None, "target_speedup": 2.0}, True),
        ("slim", {"target_flops": None, "max_drop": 1.0}, True),
        ("graph", {}, False),
        ("graph", {"tune": True}, True),
        ("graph", {"runtime": "auto"}, True),
    ],
)
def test_stages_that_measure_time_are_known(document: dict[str, Any], stage: str, fields: dict[str, Any], timed: bool) -> None:
    assert is_timed(build(document, **{stage: fields}).stages[stage]) is timed


def test_stages_that_use_a_gpu_are_known(document: dict[str, Any], tmp_path: Path) -> None:
    stages = build(document, slim={"device": "cuda"}, teacher={"device": "auto"}).stages
    assert [(may_use_gpu(stages[name]), needs_gpu(stages[name])) for name in ("slim", "teacher", "proof", "graph")] == [
        (True, True),
        (True, False),
        (False, False),
        (False, False),
    ]
