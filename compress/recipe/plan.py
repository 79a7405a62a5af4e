"""What a run would do: which stages are finished already, and which must run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from compress.core import artifacts
from compress.recipe.cache_key import cache_key
from compress.recipe.schema import Recipe, Stage, stage_of
from compress.recipe.workspace import Workspace
from compress.results import StageManifest


@dataclass(frozen=True)
class Planned:
    """A stage of a plan: `cached` holds its manifest if it is finished already."""

    stage: Stage
    folder: Path
    key: str | None
    cached: StageManifest | None


def finished(folder: Path, key: str) -> StageManifest | None:
    """Return the manifest of a stage's folder if it has this key and no file was changed since."""
    manifest = artifacts.read_manifest(folder)
    if manifest is None or manifest.get("key") != key or manifest.get("files") != artifacts.digest_files(folder):
        return None
    return cast("StageManifest", manifest)


def stage_folders(recipe: Recipe, output: Path) -> dict[str, Path]:
    """Return each stage's folder in a run folder: `stages/01-teacher` and so on."""
    return {name: output / "stages" / f"{number:02d}-{name}" for number, name in enumerate(recipe.stages, 1)}


def plan_run(recipe: Recipe, output: Path) -> Iterator[Planned]:
    """Yield every stage with what is known before running: a stage whose inputs are not finished has no key yet."""
    workspace = Workspace(recipe)
    pending: set[str] = set()
    for name, folder in stage_folders(recipe, output).items():
        stage = recipe.stages[name]
        key = None if pending & {stage_of(reference) for reference in stage.references()} else cache_key(stage, workspace)
        cached = finished(folder, key) if key else None
        if cached is None:
            pending.add(name)
        else:
            workspace.finish(name, folder, cached)
        yield Planned(stage, folder, key, cached)
