"""Run one verb: a one-stage recipe whose output folder is the artifact itself."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from compress.core import artifacts, console, locks, outputs, processes
from compress.core.errors import UsageError
from compress.core.scratch import folder as scratch_folder
from compress.recipe.artifact import write_stage
from compress.recipe.cache_key import cache_key
from compress.recipe.call import WorkOrder, call_stage, stage_inputs, take_part
from compress.recipe.plan import finished
from compress.recipe.preflight import check_inputs
from compress.recipe.schema import Recipe
from compress.recipe.workspace import Workspace


def run_single(recipe: Recipe, output: Path | None, overwrite: bool = False) -> dict[str, object]:
    """Run a one-stage recipe; a measurement needs no folder.

    Returns the manifest of the stage with `output` and `up_to_date` added. An output that the same call has written before is left as
    it is, and `up_to_date` says so.

    Raises:
        UsageError: the output folder holds something else.
    """
    return processes.run_led(
        lambda: _run_in_main_process(recipe, output, overwrite), lambda order: take_part(recipe, cast("WorkOrder", order))
    )


def _run_in_main_process(recipe: Recipe, output: Path | None, overwrite: bool) -> dict[str, object]:
    (stage,) = recipe.stages.values()
    workspace = Workspace(recipe)
    if processes.launched() > 1 and not stage.verb.distributed:
        raise UsageError(f"{stage.verb.name} runs in one process, and there are {processes.launched()}", "start it without a launcher")
    if output is None:
        with scratch_folder() as scratch:
            seconds, document = call_stage(stage, workspace, scratch)
            return {"output": None, "seconds": seconds, **document}
    output = outputs.nameable(output)
    outputs.check_output(output, [workspace.folder(name) for name in stage.references()])
    if output.is_mount():
        raise UsageError(f"{output} is a mount point, which cannot be replaced as a whole", "name a folder inside it with -o")
    with locks.locked(output):
        check_inputs(recipe)
        key = cache_key(stage, workspace)
        manifest = finished(output, key) if output.exists() else None
        if manifest is not None:
            outputs.clean_up(output)
            console.info(f"{output} is up to date: settings, model, data and code are unchanged")
            return {"output": str(output), "up_to_date": True, **manifest}
        _check_free(output, overwrite)
        return {"output": str(output), "up_to_date": False, **write_stage(stage, workspace, output, key, card=True)}


def plan_single(recipe: Recipe) -> dict[str, object]:
    """Return the plan of a one-stage recipe, from the function `plan` of its stage; nothing is written."""
    (stage,) = recipe.stages.values()
    workspace = Workspace(recipe)
    check_inputs(recipe)
    return {**stage.verb.load("plan")(stage_inputs(stage, workspace), stage.settings)}


def _check_free(output: Path, overwrite: bool) -> None:
    """Refuse to replace a folder that compress did not write, or without `overwrite`."""
    if not output.exists() or not any(output.iterdir()):
        return
    if artifacts.read_manifest(output) is None:
        raise UsageError(f"{output} is not empty and was not made by compress", "choose another folder with -o")
    if not overwrite:
        raise UsageError(
            f"{output} exists already, made from other settings or inputs", "choose another folder with -o, or pass --overwrite"
        )
