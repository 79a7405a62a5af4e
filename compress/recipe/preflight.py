"""Checks before any work: the models and the data of a recipe are available."""

from __future__ import annotations

from compress.core.errors import DataError
from compress.data.retrieval import SHARES_HINT
from compress.data.task import Task
from compress.models.reference import locate
from compress.recipe.schema import Recipe, Stage, stage_of
from compress.recipe.verbs import MODEL_SETTINGS, named_by
from compress.recipe.workspace import Workspace


def check_inputs(recipe: Recipe, workspace: Workspace | None = None) -> None:
    """Fail before any work if an external model or the data is unavailable.

    Args:
        recipe: the recipe.
        workspace: keeps the data and the digests that were read; None: nothing is kept.

    Raises:
        ModelError, DataError, ResourceError: as `locate` and the task's loading raise them.
    """
    workspace = workspace or Workspace(recipe)
    for stage in recipe.stages.values():
        for reference in stage.references():
            if stage_of(reference) not in recipe.stages:
                workspace.digest(reference)
        for reference in named_by(stage.settings, MODEL_SETTINGS).values():
            _check_masked_lm(reference)
        if stage.verb.needs_task and workspace.task is not None:
            _check_splits(stage, workspace.task)
    if workspace.task is not None:
        for split in workspace.task.available:
            workspace.task.split(split)


def _check_masked_lm(reference: str) -> None:
    """Load the model that substitutes words, to see that it can; imports torch only for recipes that name one."""
    import torch

    from compress.distill.word_substitution import WordSubstituter

    WordSubstituter(locate(reference), torch.device("cpu"))


def _check_splits(stage: Stage, task: Task) -> None:
    """Check that the task has the splits that a stage reads."""
    evaluated = getattr(stage.settings, "split", None)
    needed = [task.evaluation_split(evaluated)] if evaluated else ["train"] if stage.settings.reads_train else []
    if stage.verb.needs_validation:
        needed.append("validation")
    for name in needed:
        if name not in task.available:
            raise DataError(
                f"stage {stage.name} needs the {name} split, and task {task.spec.name} has only: {', '.join(task.available)}",
                f"give the file with --{name}" if task.retrieval is None else SHARES_HINT,
            )
