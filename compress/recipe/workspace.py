"""Where the models of a recipe are: finished stages, and external references."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from compress.core import artifacts
from compress.core.errors import ModelError
from compress.data.task import Task
from compress.inference.retriever import open_task
from compress.models.reference import digest_model, locate
from compress.recipe.schema import MODEL, Recipe, stage_of
from compress.results import RuntimeHints, StageManifest


@dataclass
class Workspace:
    """The folders and digests of models while a recipe runs."""

    recipe: Recipe
    folder_of: dict[str, Path] = field(default_factory=dict)  # of finished stages
    digest_of: dict[str, str] = field(default_factory=dict)
    runtime_of: dict[str, RuntimeHints | None] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task | None:
        """The recipe's task, or None."""
        return open_task(self.recipe.task) if self.recipe.task else None

    def folder(self, reference: str) -> Path:
        """Return the folder of a finished stage, of one of its models (`slim/2x`), of the recipe's model, or of any model reference.

        `best` and `median` name models of a stage with several seeds by their score on validation.

        Raises:
            ModelError: the stage has no such model.
        """
        stage, _, part = reference.partition("/")
        if stage not in self.folder_of:
            return locate(self.recipe.model if reference == MODEL and self.recipe.model else reference)
        folder = self.folder_of[stage]
        part = _chosen_seed(folder, part)
        if part and not (folder / part).is_dir():
            models = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "a single one"
            raise ModelError(f"stage {stage} has no model '{part}'", f"it has: {models}")
        return folder / part

    def digest(self, reference: str) -> str:
        """Return the content digest of a model."""
        if reference not in self.digest_of:
            self.digest_of[reference] = digest_model(self.folder(reference))
        return self.digest_of[reference]

    def runtime(self, reference: str) -> RuntimeHints | None:
        """Return the runtime hints of a model: artifacts with the same graph can differ in them."""
        if reference not in self.runtime_of and stage_of(reference) not in self.folder_of:
            self.runtime_of[reference] = (artifacts.read_manifest(self.folder(reference)) or {}).get("runtime")
        return self.runtime_of.get(reference)

    def finish(self, stage: str, folder: Path, manifest: StageManifest) -> None:
        """Make the output of a stage available to later ones."""
        self.folder_of[stage], self.digest_of[stage] = folder, manifest["digest"]
        self.runtime_of[stage] = manifest.get("runtime")


def external_models(recipe: Recipe) -> list[Path]:
    """Return the folders of the models that a recipe reads and does not make.

    Raises:
        ModelError, ResourceError: as `locate` raises them.
    """
    workspace, stages = Workspace(recipe), recipe.stages.values()
    names = [name for stage in stages for name in stage.references() if stage_of(name) not in recipe.stages]
    return [workspace.folder(name) for name in dict.fromkeys(names)]


def _chosen_seed(folder: Path, name: str) -> str:
    """Return the folder that `best` or `median` stands for; any other name unchanged."""
    if name not in ("best", "median"):
        return name
    return (artifacts.read_manifest(folder) or {}).get("chosen", {}).get(name, name)
