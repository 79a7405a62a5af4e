"""What a run has to do: cache keys, and which stages are done already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from compress.core import artifacts, digests, machine
from compress.core.errors import DataError, ModelError
from compress.data.tables import existing_file
from compress.data.task import Task
from compress.models.reference import digest_model, locate
from compress.recipe.schema import MODEL, Recipe, Stage, stage_of
from compress.recipe.verbs import code_version
from compress.settings import DistillSettings

MANIFEST_SCHEMA = 1


@dataclass
class Workspace:
    """The folders that models come from while a recipe runs: finished stages, and external references."""

    recipe: Recipe
    folder_of: dict[str, Path] = field(default_factory=dict)  # finished stages
    digest_of: dict[str, str] = field(default_factory=dict)
    runtime_of: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def task(self) -> Task | None:
        """The recipe's task, or None."""
        return Task(self.recipe.task) if self.recipe.task else None

    def folder(self, reference: str) -> Path:
        """Return the folder of a finished stage (or of one of its models, `slim/2x`), of the recipe's model, or of any reference.

        Of a stage with several seeds, `best` and `median` name the models with these scores on validation.

        Raises:
            ModelError: a stage that made no such model.
        """
        stage, _, part = reference.partition("/")
        if stage in self.folder_of:
            part = chosen(self.folder_of[stage], part)
            if part and not (self.folder_of[stage] / part).is_dir():
                made = ", ".join(sorted(path.name for path in self.folder_of[stage].iterdir() if path.is_dir())) or "a single one"
                raise ModelError(f"stage {stage} made no model '{part}'", f"it made: {made}")
            return self.folder_of[stage] / part
        return locate(self.recipe.model if reference == MODEL and self.recipe.model else reference)

    def digest_model(self, reference: str) -> str:
        """Return the content digest of a model."""
        if reference not in self.digest_of:
            self.digest_of[reference] = digest_model(self.folder(reference))
        return self.digest_of[reference]

    def finish(self, stage: str, folder: Path, manifest: dict[str, Any]) -> None:
        """Make a stage's output available to later ones."""
        self.folder_of[stage], self.digest_of[stage] = folder, manifest["digest"]
        self.runtime_of[stage] = manifest.get("runtime")

    def runtime(self, reference: str) -> Any:
        """Return how a model is recorded to be run: the same graph may be, with other options."""
        if reference not in self.runtime_of and reference.partition("/")[0] not in self.folder_of:
            self.runtime_of[reference] = (artifacts.read_manifest(self.folder(reference)) or {}).get("runtime")
        return self.runtime_of.get(reference)

    def key(self, stage: Stage) -> str:
        """Return the cache key: settings, inputs, data, seed, code, libraries, and (for timings) the machine."""
        facts: dict[str, Any] = {
            "verb": stage.verb.name,
            "settings": stage.settings.model_dump(mode="json"),
            "inputs": {name: self.digest(name) for name in stage.references()},
            "roles": [list(stage.sources), stage.teacher, stage.student, *stage.more_teachers],
            "data": self.task.fingerprint if self.task else None,
            "seed": stage.seed,
            "code": code_version(stage.verb.name),
            "libraries": machine.versions(),
        }
        if unlabeled := getattr(stage.settings, "unlabeled", None):
            facts["unlabeled"] = digests.digest_file(existing_file(unlabeled))
        if writer := getattr(stage.settings, "augment_model", None):
            facts["augment_model"] = digest_model(locate(writer))
        if stage.verb.makes == "measurement":
            facts["runtimes"] = {name: self.runtime(name) for name in stage.references()}
        if stage.verb.machine_bound or getattr(stage.settings, "budget", None):  # how far it comes in its time is the machine's doing
            facts["machine"] = machine.identity()
        return digests.digest_json(facts)


def finished(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the manifest of a stage's folder if it has this key and every file is as it was written."""
    manifest = artifacts.read_manifest(folder)
    if manifest is None or manifest.get("key") != key or manifest.get("files") != artifacts.digest_files(folder):
        return None
    return manifest


def chosen(folder: Path, name: str) -> str:
    """Return the name of the model that `best` or `median` stands for in a folder of several seeds; any other name as it is."""
    return ((artifacts.read_manifest(folder) or {}).get("chosen", {}) if name in ("best", "median") else {}).get(name, name)


@dataclass(frozen=True)
class Planned:
    """A stage of a plan: `cached` holds its manifest where it is done already."""

    stage: Stage
    folder: Path
    key: str | None
    cached: dict[str, Any] | None


def stage_folders(recipe: Recipe, output: Path) -> dict[str, Path]:
    """Return each stage's folder in a run folder: `stages/01-teacher` and so on."""
    return {name: output / "stages" / f"{number:02d}-{name}" for number, name in enumerate(recipe.stages, 1)}


def plan(recipe: Recipe, output: Path) -> Iterator[Planned]:
    """Yield every stage with what is known before running: a stage behind one that must run has no key yet."""
    workspace = Workspace(recipe)
    pending: set[str] = set()
    for name, folder in stage_folders(recipe, output).items():
        stage = recipe.stages[name]
        key = None if pending & {stage_of(reference) for reference in stage.references()} else workspace.key(stage)
        cached = finished(folder, key) if key else None
        if cached is None:
            pending.add(name)
        else:
            workspace.finish(name, folder, cached)
        yield Planned(stage, folder, key, cached)


def check_inputs(recipe: Recipe) -> None:
    """Fail before any work where an external model or the data cannot be had.

    Raises:
        ModelError, DataError, ResourceError: as `locate` and the task's loading raise them.
    """
    workspace = Workspace(recipe)
    for stage in recipe.stages.values():
        for reference in stage.references():
            if stage_of(reference) not in recipe.stages:
                workspace.digest(reference)
        if writer := getattr(stage.settings, "augment_model", None):
            _check_writer(writer)
        if stage.verb.needs_task and workspace.task is not None:
            _check_split(stage, workspace.task)
    if workspace.task is not None:
        for split in workspace.task.available:
            workspace.task.split(split)


def _check_writer(reference: str) -> None:
    """Load what shall make variants of texts, to see that it can; only recipes that name one pay for it."""
    import torch

    from compress.distill.word_substitution import Writer

    Writer(locate(reference), torch.device("cpu"))


def _check_split(stage: Stage, task: Task) -> None:
    """Check that the splits that a stage reads are there."""
    wanted = getattr(stage.settings, "split", None)
    needed = ["train" if wanted is None else task.evaluation_split(wanted)] if wanted or stage.settings.reads_train else []
    if isinstance(stage.settings, DistillSettings):
        needed.append("validation")  # which chooses its best epoch, whatever it learns from
    for name in needed:
        if name not in task.available:
            raise DataError(
                f"stage {stage.name} needs the {name} split, and task {task.spec.name} has only: {', '.join(task.available)}",
                f"give the file with --{name}",
            )
