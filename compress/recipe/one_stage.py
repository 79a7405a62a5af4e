"""One verb as a recipe with one stage: what a command or a function of the Python API stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.core.errors import UsageError
from compress.core.validation import validate
from compress.data.dataset_objects import is_dataset
from compress.data.presets import TaskLike, resolve
from compress.models.reference import LEGACY
from compress.recipe.check import check_recipe
from compress.recipe.schema import MODEL, SCHEMA, Recipe
from compress.recipe.verbs import VERBS
from compress.stage import is_spec

ModelLike = str | Path  # a folder, a hub id, `builtin:minilm-l6` or an ONNX artifact


def one_stage(
    verb: str,
    models: Sequence[ModelLike],
    task: TaskLike | None,
    seed: int | None,
    settings: Mapping[str, object],
    **roles: ModelLike | Sequence[ModelLike],
) -> Recipe:
    """Return the recipe of a single verb.

    Args:
        verb: the verb.
        models: what it starts from.
        task: the task, if there is one.
        seed: the seed; None means 0.
        settings: settings of the verb by name.
        roles: further inputs: the `teacher` (or a list of them) and the `student` of `distill`.

    Raises:
        UsageError: an unknown setting, a value out of its bounds, or both a seed and seeds.
        RecipeError: a malformed task.
    """
    row = VERBS[verb]
    validate(row.settings, settings, verb, UsageError)
    if seed is not None and settings.get("seeds"):
        raise UsageError(f"{verb} takes a seed or seeds, not both", "leave one of them out: 'seeds' replaces 'seed'")
    if row.needs_task and task is None:
        raise UsageError(f"{verb} needs a task", "give --task T, or --train, --validation, --text and --label")
    names = [as_reference(model) for model in models]
    stage: dict[str, object] = {"do": verb, **settings, **{role: as_references(model) for role, model in roles.items()}}
    document: dict[str, object] = {"schema": SCHEMA, "name": verb, "seed": seed or 0, "stages": {verb: stage}}
    if row.many:
        if len(set(names)) < len(names):
            raise UsageError(f"the same model was given twice: {next(name for name in names if names.count(name) > 1)}")
        stage["from"] = names
    elif names:
        document["model"], stage["from"] = names[0], MODEL
    if task is not None:
        document["task"] = {"data": task} if is_dataset(task) else dict(task) if isinstance(task, Mapping) else task
    return check_recipe(document, resolve, verb)


def as_reference(model: ModelLike) -> str:
    """Return a model as a recipe refers to it: the path of a local folder always has a slash, as in `./teacher`."""
    text = str(model)
    if is_spec(text) or "/" in text or ":" in text or (text in LEGACY and not Path(text).is_dir()):
        return LEGACY.get(text, text)
    return f"./{text}"


def as_references(models: ModelLike | Sequence[ModelLike]) -> str | list[str]:
    """Return one model as a recipe refers to it, or several."""
    return as_reference(models) if isinstance(models, (str, Path)) else [as_reference(model) for model in models]
