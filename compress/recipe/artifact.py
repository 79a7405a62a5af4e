"""Write the output of a stage: atomically, with its manifest last, so that a folder is complete or absent."""

from __future__ import annotations

import shutil
from pathlib import Path

from compress.core import artifacts, console, files, outputs
from compress.core.errors import CompressError, Diverged, ResourceError
from compress.recipe.call import call_stage
from compress.recipe.provenance import MANIFEST_SCHEMA, stage_manifest
from compress.recipe.schema import Stage
from compress.recipe.workspace import Workspace
from compress.results import StageManifest


def write_stage(stage: Stage, workspace: Workspace, folder: Path, key: str, card: bool = False) -> StageManifest:
    """Run a stage into a temporary folder, write its manifest last and rename the folder; returns the manifest.

    With `card` an ONNX artifact gets a model card, which the manifest does not cover, so that it may be edited. The training state
    of an interrupted run with this key is resumed, and removed at the end.
    """
    resume = outputs.resume_folder(folder, key)
    with files.atomic_folder(folder) as temporary:
        try:
            seconds, document = call_stage(stage, workspace, temporary, resume)
        except Diverged as error:
            shutil.rmtree(resume, ignore_errors=True)
            if not (temporary / "config.json").is_file():
                raise
            raise _keep_best_epoch(error, stage, temporary, folder) from error
        except CompressError as error:
            if not isinstance(error, ResourceError):  # the same call would fail again
                shutil.rmtree(resume, ignore_errors=True)
            raise
        manifest = stage_manifest(stage, workspace, key, seconds, document, temporary)
        if card and stage.verb.makes == "onnx":
            _write_card(temporary, folder.name, stage.name, manifest)
        files.write_json(temporary / artifacts.MANIFEST, console.finite({**manifest}))
    shutil.rmtree(resume, ignore_errors=True)
    return manifest


def _write_card(folder: Path, title: str, name: str, manifest: StageManifest) -> None:
    from compress.report.card import model_card

    card = model_card(title, name, {name: {**manifest}}, folder)
    (folder / artifacts.CARD).write_text(card, encoding="utf-8", errors="backslashreplace")


def _keep_best_epoch(error: Diverged, stage: Stage, written: Path, folder: Path) -> Diverged:
    """Keep the best epoch before a training diverged, in `NAME.diverged` next to the output; returns the error to raise."""
    kept = folder.with_name(f"{folder.name}.diverged")
    if kept.exists() and artifacts.read_manifest(kept) is None:
        return error  # compress did not write it
    with files.atomic_folder(kept) as temporary:
        shutil.copytree(written, temporary, dirs_exist_ok=True)
        files.write_json(temporary / artifacts.MANIFEST, {"schema": MANIFEST_SCHEMA, "verb": stage.verb.name, "diverged": error.message})
    return Diverged(f"{error.message}; the best epoch before is kept in {kept}", error.hint)
