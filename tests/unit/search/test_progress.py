"""What is printed while jobs run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core import console
from compress.search.executor import JobEvent
from compress.search.jobs import JobGraph, job_graph
from compress.search.progress import SweepProgress
from compress.search.store import EventKind, StageEvent
from tests.unit.search.recipes import build, write_document


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> JobGraph:
    document = write_document(tmp_path_factory.mktemp("inputs"))
    return job_graph({"a": build(document), "b": build(document, slim={"target_flops": 0.25})})


def event(graph: JobGraph, number: int, kind: EventKind, where: str = "", **fields: Any) -> JobEvent:
    job = list(graph.jobs.values())[number]
    return JobEvent(job, StageEvent(kind, job.recipe.name, job.name, job.stage.verb.name, Path(), **fields), where)


def test_a_line_when_a_stage_starts_and_ends(graph: JobGraph, capsys: pytest.CaptureFixture[str]) -> None:
    console.configure()
    with SweepProgress(graph, live=False) as progress:
        progress.observe(event(graph, 0, "reused", seconds=3.0))
        progress.observe(event(graph, 1, "started"))
        progress.observe(event(graph, 1, "finished", seconds=12.0))
    assert capsys.readouterr().err.splitlines() == [
        "[1/5] teacher (finetune), all points: in the store",
        "[2/5] slim (prune), a",
        "  done in 12 s",
    ]
    assert progress.places == {}


def test_lines_of_several_machines_name_the_stage_and_where(graph: JobGraph, capsys: pytest.CaptureFixture[str]) -> None:
    console.configure()
    with SweepProgress(graph, live=True) as progress:  # not on a terminal here
        progress.observe(event(graph, 0, "started", "host 7"))
        progress.observe(event(graph, 0, "log", "host 7", text="epoch 1"))
        progress.observe(event(graph, 0, "warning", "host 7", text="odd"))
        progress.observe(event(graph, 0, "finished", "host 7", seconds=12.0))
    assert capsys.readouterr().err.splitlines() == [
        "[1/5] teacher (finetune), all points on host 7",
        "warning: teacher: odd",
        "[1/5] teacher (finetune), all points: done in 12 s",
    ]
    assert list(progress.places.values()) == ["host 7"]


def test_the_live_table_shows_what_runs_where(graph: JobGraph) -> None:
    progress = SweepProgress(graph, live=True)
    progress.observe(event(graph, 0, "reused", seconds=3.0))
    progress.observe(event(graph, 1, "started", "host 7"))
    progress.observe(event(graph, 1, "log", "host 7", text="epoch 1"))
    title, (row,) = progress._table()
    assert title.startswith("1 of 5 stages, 1 from the store")
    assert (row[0], *row[2:]) == ("slim · a", "host 7", "epoch 1")
