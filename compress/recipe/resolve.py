"""A recipe with every default written out, as it is kept in the run folder."""

from __future__ import annotations

from compress.data.spec import TaskSpec
from compress.recipe.schema import SCHEMA, Recipe, Stage
from compress.recipe.verbs import seeds_of


def resolved(recipe: Recipe) -> dict[str, object]:
    """Return the recipe's document with every default written out; reading it gives the same recipe."""
    task = _resolved_task(recipe.task) if recipe.task else None
    top = {"schema": SCHEMA, "name": recipe.name, "seed": recipe.seed, "model": recipe.model, "task": task}
    return {
        **{key: value for key, value in top.items() if value is not None},
        "gates": recipe.gates.model_dump(exclude_none=True),
        "stages": {name: _resolved_stage(stage) for name, stage in recipe.stages.items()},
    }


def _resolved_task(task: TaskSpec) -> dict[str, object]:
    """Return the document of a task; what has another default for each kind is always written."""
    by_kind = {"max_length": task.max_length} | ({"label": task.label} if task.kind == "question-answering" else {})
    return {**task.model_dump(mode="json", exclude_none=True, exclude_defaults=True), **by_kind}


def _resolved_stage(stage: Stage) -> dict[str, object]:
    document: dict[str, object] = {"do": stage.verb.name}
    if stage.student is None:
        document["from"] = list(stage.sources) if stage.verb.many else stage.sources[0]
    else:
        document["student"] = stage.student
    if stage.teacher:
        document["teacher"] = [stage.teacher, *stage.more_teachers] if stage.more_teachers else stage.teacher
    if not seeds_of(stage.settings):
        document["seed"] = stage.seed
    return document | stage.settings.in_use()
