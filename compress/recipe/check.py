"""Check the document of a recipe: keys, gates and stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compress.core.errors import RecipeError
from compress.core.validation import validate
from compress.data.presets import TaskLike
from compress.data.spec import TaskSpec
from compress.recipe.check_stage import check_stage
from compress.recipe.schema import SCHEMA, Recipe, RecipeDocument, Stage
from compress.recipe.verbs import VERBS


def check_recipe(document: Mapping[str, object], resolve_task: Callable[[TaskLike], TaskSpec], where: str) -> Recipe:
    """Check a recipe's document.

    Args:
        document: as read from YAML.
        resolve_task: turns the document's task into a `TaskSpec`.
        where: the file's name, for messages.

    Raises:
        RecipeError: unknown or missing keys, wrong values, or stages that refer to later or missing ones.
    """
    version = document.get("schema")
    if isinstance(version, bool):
        raise RecipeError(f"{where}: schema is {version}, not a number", f"write: schema: {SCHEMA}")
    if isinstance(version, int) and version > SCHEMA:
        raise RecipeError(f"{where}: schema {version} is newer than this compress understands ({SCHEMA})", "upgrade compress")
    top = validate(RecipeDocument, document, where, RecipeError)
    task = resolve_task(top.task) if top.task is not None else None
    stages: dict[str, Stage] = {}
    for name, fields in top.stages.items():
        stages[name] = check_stage(name, dict(fields), stages, top, where)
    recipe = Recipe(top.name, top.seed, top.model, task, top.gates, stages, document)
    _check_gates(recipe, where)
    return recipe


def _check_gates(recipe: Recipe, where: str) -> None:
    """Check that each gate has a stage that measures it, and that all of them compare the same two models."""
    limits = recipe.gates.model_dump(exclude_none=True)
    gated = {stage.verb.gate: stage for stage in recipe.stages.values() if stage.verb.gate}
    for gate in limits:
        if gate not in gated:
            verb = next(verb.name for verb in VERBS.values() if verb.gate == gate)
            raise RecipeError(f"{where}: the gate '{gate}' needs a stage that does '{verb}'")
    if len(limits) < 2:
        return
    one, other = (gated[gate] for gate in limits)
    for end, place in ((0, "first"), (-1, "last")):
        if one.sources[end] != other.sources[end]:
            raise RecipeError(
                f"{where}: the gates compare the first model with the last, but the {place} is '{one.sources[end]}' in "
                f"'{one.verb.name}' and '{other.sources[end]}' in '{other.verb.name}'",
                "let both start and end with the same models",
            )
