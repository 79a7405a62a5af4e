"""Turn a recipe whose stages are in a store into an ordinary run folder, without running anything."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from compress.core import artifacts, files, locks, outputs
from compress.core.errors import UsageError
from compress.recipe.events import logged_events
from compress.recipe.plan import finished, stage_folders
from compress.recipe.run import check_run_folder, finish_run, write_resolved
from compress.recipe.schema import Recipe
from compress.recipe.workspace import external_models
from compress.results import RunDocument
from compress.search.store import FinishedStage, Store

LINKED = {".safetensors", ".onnx", ".data", ".bin"}  # weights: nobody edits them, and a copy would double the space


def write_run_folder(recipe: Recipe, store: Store, stages: Mapping[str, FinishedStage], output: Path) -> RunDocument:
    """Write a run folder as `compress run` would have, from finished stages: `stages/`, `model/`, `manifest.json`, report, recipe.

    `compress run OUTPUT/recipe.resolved.yaml -o OUTPUT` finds every stage unchanged, and into another folder it makes the same
    weights. Files of weights are hard links into the store if both are on one disk, else copies.

    Args:
        recipe: the recipe.
        store: where its stages are.
        stages: all its stages, as `run_stages` returns them.
        output: the folder to write; a run folder that is there already is brought up to date.

    Returns:
        The manifest of the run. A missed gate raises nothing: it is an entry of `gates`.

    Raises:
        UsageError: a stage is missing, or the folder holds something else.
        Locked: another process writes the folder.
    """
    if missing := recipe.stages.keys() - stages.keys():
        raise UsageError(f"recipe {recipe.name} is not finished: the stage '{min(missing)}' has not run")
    started, output = time.monotonic(), outputs.nameable(output)
    outputs.check_output(output, external_models(recipe))
    with locks.locked(output):
        check_run_folder(output)
        output.mkdir(exist_ok=True)
        write_resolved(recipe, output)
        workspace = store.workspace(recipe)
        with logged_events(output / "events.jsonl"):
            (output / "manifest.json").unlink(missing_ok=True)  # out of date from here on
            for name, folder in stage_folders(recipe, output).items():
                _place(stages[name], folder)
                workspace.finish(name, folder, stages[name].manifest)
            ran = sum(stage.ran for stage in stages.values())
            return finish_run(recipe, output, workspace, {name: stages[name].manifest for name in recipe.stages}, ran, started)


def _place(stage: FinishedStage, target: Path) -> None:
    """Make a stage of the store a stage of a run folder, under the name that the recipe gives it."""
    if finished(target, stage.manifest.get("key", "")) is not None:
        return
    with files.atomic_folder(target) as temporary:
        copy_linked(stage.folder, temporary)
        files.write_json(temporary / artifacts.MANIFEST, {**stage.manifest, "stage": stage.name})


def copy_linked(source: Path, target: Path) -> None:
    """Copy the files of a folder into another; weights become hard links if both are on one disk."""
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=_link_weights)


def _link_weights(source: str, target: str) -> None:
    if Path(source).suffix in LINKED:
        try:
            os.link(source, target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    shutil.copyfile(source, target)
