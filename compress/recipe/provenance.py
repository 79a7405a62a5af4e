"""Provenance: the manifest of a stage's folder, of each of its models, and of a whole run."""

from __future__ import annotations

import subprocess
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from compress.core import artifacts, console, digests, files, machine
from compress.core.public_names import public_names, with_public_names
from compress.core.version import __version__
from compress.data.dataset_objects import SPLITS
from compress.models.config import read_config
from compress.models.family import family_of
from compress.models.reference import digest_model
from compress.models.shape import CONFIG_KEY
from compress.recipe.plan import stage_folders
from compress.recipe.schema import MODEL, Recipe, Stage
from compress.recipe.workspace import Workspace
from compress.results import GateDocument, RunDocument, StageManifest

MANIFEST_SCHEMA = 1
WITH_PATHS = ("settings", "lineage")  # keys of a manifest that name files and folders, besides its inputs and its task's
OF_THE_STAGE = ("key", "models", "seeds", "chosen", "curve")  # keys of a stage that are not repeated for each of its models


def stage_manifest(
    stage: Stage, workspace: Workspace, key: str, seconds: float, document: Mapping[str, object], folder: Path
) -> StageManifest:
    """Return the manifest of a folder that a stage has written; writes those of its models, if there are several."""
    manifest: dict[str, Any] = {
        "schema": MANIFEST_SCHEMA,
        "kind": stage.verb.makes,
        "verb": stage.verb.name,
        "stage": stage.name,
        "key": key,
        "created": now(),
        "seconds": seconds,
        "seed": stage.seed,
        "settings": stage.settings.model_dump(mode="json"),
        "task": workspace.task.spec.model_dump(mode="json", exclude_none=True) if workspace.task else None,
        "inputs": {name: workspace.digest(name) for name in stage.references()},
        "lineage": lineage(stage, workspace),
        "versions": machine.versions() | {"compress": __version__},
        **document,
    }
    manifest = public_manifest(manifest, workspace.recipe.stages)
    if stage.verb.makes == "checkpoint":
        manifest |= loads_plainly(folder)
        write_model_manifests(folder, manifest)
    manifest["files"] = artifacts.digest_files(folder)
    manifest["digest"] = digests.digest_json(console.finite({**document})) if stage.verb.makes == "measurement" else digest_model(folder)
    return cast("StageManifest", manifest)


def public_manifest(manifest: Mapping[str, object], stages: Collection[str]) -> dict[str, object]:
    """Return a manifest that may be published with its model: files and folders are named without their paths.

    Args:
        manifest: of a stage or of one of its models.
        stages: names of the recipe's stages. Among the inputs, no other model gets the name of one.
    """
    task, inputs = manifest.get("task"), manifest.get("inputs")
    public = {key: with_public_names(value) if key in WITH_PATHS else value for key, value in manifest.items()}
    if isinstance(inputs, Mapping):
        names = public_names(inputs, taken={MODEL, *stages})
        public["inputs"] = {names[name]: digest for name, digest in inputs.items()}
    if isinstance(task, Mapping):
        paths = [key for key in ("beir", "retriever") if Path(str(task.get(key, ""))).is_absolute()]  # a repository is no path
        hidden = {*SPLITS, "run", *paths}
        public["task"] = {key: with_public_names(value) if key in hidden else value for key, value in task.items()}
    return public


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def lineage(stage: Stage, workspace: Workspace) -> list[dict[str, object]]:
    """Return what was done to the model so far, oldest first, this stage last."""
    if stage.verb.makes == "measurement":
        return []
    source = stage.sources[0] if stage.sources else stage.teacher
    before: list[dict[str, object]] = (artifacts.read_manifest(workspace.folder(source)) or {}).get("lineage", []) if source else []
    if not before and source:
        before = [{"model": workspace.recipe.model if source == MODEL else source}]
    return [*before, {"verb": stage.verb.name, "settings": stage.settings.model_dump(mode="json"), "seed": stage.seed}]


def loads_plainly(folder: Path) -> dict[str, bool]:
    """Return as `plain` whether plain transformers loads a checkpoint correctly: not if it is pruned, factorized, shared or adapted."""
    if not (folder / "config.json").is_file():
        return {}
    config = read_config(folder)
    return {"plain": CONFIG_KEY not in config and family_of(config["model_type"]).has_layers}


def write_model_manifests(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of each model of a stage with several, as if the model had been created alone.

    They have no cache key; the manifest of the stage lists them among its files.
    """
    common = {key: value for key, value in manifest.items() if key not in OF_THE_STAGE}
    for model in manifest.get("models") or []:
        target = folder / model["folder"]
        part = {**common, **model, **loads_plainly(target)}
        *before, last = common["lineage"]
        if "seed" in model:
            part["settings"] = {**common["settings"], "seeds": None}
            last = {**last, "settings": part["settings"], "seed": model["seed"]}
        part |= {"lineage": [*before, last], "files": artifacts.digest_files(target), "digest": digest_model(target)}
        files.write_json(target / artifacts.MANIFEST, console.finite(part))


def run_manifest(
    recipe: Recipe, output: Path, workspace: Workspace, manifests: Mapping[str, StageManifest], gates: list[GateDocument]
) -> RunDocument:
    """Return the manifest of a run whose stages are finished; `seconds`, `stages_run` and `delivered` are filled in by the caller."""
    folders = stage_folders(recipe, output)
    return {
        "schema": MANIFEST_SCHEMA,
        "recipe": recipe.name,
        "output": str(output),
        "created": now(),
        "git_commit": git_commit(),
        "machine": machine.facts(),
        "model": {"reference": recipe.model, "digest": workspace.digest(MODEL)} if recipe.model else None,
        "data": {"task": workspace.task.spec.name, "fingerprint": workspace.task.fingerprint} if workspace.task else None,
        "seeds": {name: stage.seed for name, stage in recipe.stages.items()},
        "stages": {
            name: {
                "verb": manifest["verb"],
                "folder": folders[name].relative_to(output).as_posix(),
                "key": manifest.get("key", ""),
                "digest": manifest["digest"],
                "seconds": manifest["seconds"],
            }
            for name, manifest in manifests.items()
        },
        "gates": gates,
        "metrics": {name: manifest.get("metrics") for name, manifest in manifests.items()},
        "seconds": 0.0,
        "stages_run": 0,
        "stages_skipped": 0,
        "delivered": None,
    }


def git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, or None for an installed package."""
    here = Path(__file__)
    try:
        for arguments in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):  # our repository, not one around it
            command = ["git", "-C", str(here.parent), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or no answer in time
        return None
    return done.stdout.strip()
