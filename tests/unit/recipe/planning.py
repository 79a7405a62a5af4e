"""Helpers of the tests of planning."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from compress.recipe import load as loading
from compress.recipe.cache_key import cache_key
from compress.recipe.schema import Recipe
from compress.recipe.workspace import Workspace

ORDER = ["teacher", "slim", "student", "graph", "int8", "proof", "speed"]


def build(document: dict[str, Any]) -> Recipe:
    """Check a document."""
    return loading.build(copy.deepcopy(document), "plan.yaml", Path("/"))


def keys(document: dict[str, Any]) -> dict[str, str]:
    """Return every stage's key, as if each stage's output were decided by its key alone."""
    recipe = build(document)
    workspace = Workspace(recipe)
    found = {}
    for name, stage in recipe.stages.items():
        found[name] = cache_key(stage, workspace)
        workspace.finish(name, Path(name), {"digest": found[name]})
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the stages whose keys differ."""
    first, second = keys(before), keys(after)
    return [name for name in first if first[name] != second[name]]


def edited(document: dict[str, Any], stage: str, **fields: Any) -> dict[str, Any]:
    """Return the document with a stage's fields changed."""
    other = copy.deepcopy(document)
    other["stages"][stage] |= fields
    return other
