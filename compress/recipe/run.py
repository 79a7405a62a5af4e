"""Run a recipe in its run folder: every stage in turn, skipping those that are unchanged."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

import yaml

from compress.core import console, files, locks, outputs, processes
from compress.recipe.artifact import write_stage
from compress.recipe.cache_key import cache_key
from compress.recipe.call import WorkOrder, take_part
from compress.recipe.delivery import deliver
from compress.recipe.events import logged_events
from compress.recipe.gates import check_gates, raise_if_missed
from compress.recipe.plan import finished, stage_folders
from compress.recipe.preflight import check_inputs
from compress.recipe.provenance import run_manifest
from compress.recipe.resolve import resolved
from compress.recipe.schema import Recipe
from compress.recipe.workspace import Workspace, external_models
from compress.results import RunDocument, StageManifest

RECIPE_FILE = "recipe.resolved.yaml"


def run_recipe(recipe: Recipe, output: Path) -> RunDocument:
    """Run a recipe in its run folder, resuming where an earlier run stopped; returns the run's manifest.

    Raises:
        GateMissed: after everything is written, if a gate was missed.
        CompressError: whatever a stage raises; finished stages stay, the failed one leaves nothing.
    """
    document = processes.run_led(
        lambda: {**_run_in_main_process(recipe, output)}, lambda order: take_part(recipe, cast("WorkOrder", order))
    )
    return cast("RunDocument", document)


def _run_in_main_process(recipe: Recipe, output: Path) -> RunDocument:
    output = outputs.nameable(output)
    outputs.check_output(output, external_models(recipe))
    with locks.locked(output):  # before the folder is judged: a run that has just begun has not written its recipe yet
        check_run_folder(output)
        check_inputs(recipe)
        output.mkdir(exist_ok=True)
        files.remove_unfinished(output)
        write_resolved(recipe, output)
        with logged_events(output / "events.jsonl"):
            return _run_and_deliver(recipe, output)


def _run_and_deliver(recipe: Recipe, output: Path) -> RunDocument:
    workspace, started = Workspace(recipe), time.monotonic()
    console.event("run started", recipe=recipe.name)
    manifests, ran = _run_stages(recipe, output, workspace)
    document = finish_run(recipe, output, workspace, manifests, ran, started)
    raise_if_missed(document["gates"], output, document)
    return document


def finish_run(
    recipe: Recipe, output: Path, workspace: Workspace, manifests: dict[str, StageManifest], ran: int, started: float
) -> RunDocument:
    """Write what a run folder holds besides its finished stages: `model/`, `manifest.json` and the report.

    Args:
        recipe: the recipe.
        output: the run folder; its stages are in `stages/`.
        workspace: knows the folders of all stages.
        manifests: of all stages, in the recipe's order.
        ran: how many of them ran in this call.
        started: when it started, as `time.monotonic` returns it.

    Returns:
        The manifest of the run. Whether its gates are kept is for the caller to judge.
    """
    from compress import report

    document = run_manifest(recipe, output, workspace, manifests, check_gates(recipe, manifests))
    document["seconds"] = time.monotonic() - started
    document["stages_run"], document["stages_skipped"] = ran, len(manifests) - ran
    document["delivered"] = deliver(recipe, output, workspace, manifests)
    files.write_json(output / "manifest.json", document)
    report.write(output)
    console.event("run finished", seconds=document["seconds"])
    return document


def write_resolved(recipe: Recipe, output: Path) -> None:
    """Write the recipe into its run folder, with every default written out."""
    files.write_text(output / RECIPE_FILE, yaml.safe_dump(resolved(recipe), sort_keys=False, allow_unicode=True))


def check_run_folder(output: Path) -> None:
    """Refuse a folder that holds something else than a run.

    Raises:
        UsageError: it does.
    """
    outputs.check_content(output, [RECIPE_FILE], "is not a run folder")


def _run_stages(recipe: Recipe, output: Path, workspace: Workspace) -> tuple[dict[str, StageManifest], int]:
    """Run the unfinished stages; returns all manifests, and how many stages ran."""
    manifests: dict[str, StageManifest] = {}
    ran = 0
    for number, (name, folder) in enumerate(stage_folders(recipe, output).items(), 1):
        stage = recipe.stages[name]
        title = f"[{number}/{len(recipe.stages)}] {name} ({stage.verb.name})"
        key = cache_key(stage, workspace)
        manifest = finished(folder, key)
        if manifest is not None:
            outputs.clean_up(folder)
            console.info(f"{title}: unchanged, skipped")
            console.event("stage skipped", stage=name)
        else:
            console.info(title)
            console.event("stage started", stage=name)
            (output / "manifest.json").unlink(missing_ok=True)  # out of date from here on
            manifest = write_stage(stage, workspace, folder, key)
            ran += 1
            console.event("stage finished", stage=name, seconds=manifest["seconds"], metrics=manifest.get("metrics"))
            console.info(f"  done in {console.duration(manifest['seconds'])}")
        workspace.finish(name, folder, manifest)
        manifests[name] = manifest
    return manifests, ran
