"""Call the function of a stage, in one process or in several."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TypedDict

from compress.core import processes
from compress.core.scratch import folder as scratch_folder
from compress.recipe.schema import Recipe, Stage
from compress.recipe.workspace import Workspace
from compress.stage import Inputs, is_spec


class WorkOrder(TypedDict):
    """What the main process sends to the others, so that they take part in a stage."""

    stage: str
    sources: dict[str, str]
    folders: dict[str, str]
    spec: str | None
    more_teachers: list[str]


def call_stage(stage: Stage, workspace: Workspace, output: Path, resume: Path | None = None) -> tuple[float, Mapping[str, object]]:
    """Run the function of a stage into a folder; returns its wall time in seconds and its document."""
    inputs, function = stage_inputs(stage, workspace, resume), stage.verb.load()
    started = time.monotonic()
    with processes.summon({**_work_order(stage, inputs)}) if stage.verb.distributed else nullcontext():
        document = function(inputs, stage.settings, output)
    return time.monotonic() - started, document


def stage_inputs(stage: Stage, workspace: Workspace, resume: Path | None = None) -> Inputs:
    """Return the folders of a stage's inputs, with its task and seed."""
    student: Path | str | None = None
    if "student" in stage.verb.roles:
        reference = stage.student or stage.sources[0]
        student = reference if is_spec(reference) else workspace.folder(reference)
    return Inputs(
        sources={name.removeprefix("./"): workspace.folder(name) for name in stage.sources if not is_spec(name)},
        seed=stage.seed,
        task_or_none=workspace.task,
        teacher=workspace.folder(stage.teacher) if stage.teacher else None,
        student=student,
        more_teachers=tuple(workspace.folder(name) for name in stage.more_teachers),
        resume=resume,
    )


def _work_order(stage: Stage, inputs: Inputs) -> WorkOrder:
    folders = {"teacher": inputs.teacher, "resume": inputs.resume, "student": inputs.student if isinstance(inputs.student, Path) else None}
    return {
        "stage": stage.name,
        "sources": {name: str(path) for name, path in inputs.sources.items()},
        "folders": {name: str(path) for name, path in folders.items() if path},
        "spec": inputs.student if isinstance(inputs.student, str) else None,
        "more_teachers": [str(path) for path in inputs.more_teachers],
    }


def take_part(recipe: Recipe, order: WorkOrder) -> None:
    """Do another process's share of a stage; only the main process writes the result."""
    stage = recipe.stages[order["stage"]]
    folders = {name: Path(path) for name, path in order["folders"].items()}
    inputs = Inputs(
        sources={name: Path(path) for name, path in order["sources"].items()},
        seed=stage.seed,
        task_or_none=Workspace(recipe).task,
        teacher=folders.get("teacher"),
        student=folders.get("student") or order["spec"],
        more_teachers=tuple(Path(path) for path in order["more_teachers"]),
        resume=folders.get("resume"),
    )
    with scratch_folder() as scratch:
        stage.verb.load()(inputs, stage.settings, scratch)
