"""Overrides of a recipe: `--set path=value`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from compress.core import yaml_file
from compress.core.errors import RecipeError, did_you_mean


def overridden(document: Mapping[str, object], override: str) -> dict[str, object]:
    """Return the document with one `path=value` applied; `student.epochs` is short for `stages.student.epochs`.

    Raises:
        RecipeError: no `=`, or a path whose parent does not exist.
    """
    path, equals, text = override.partition("=")
    where = f"--set {override}"
    if not equals or not is_path(path):
        raise RecipeError(f"{where}: write it as path=value", "for example --set student.epochs=5")
    return with_value(document, path, lambda: yaml_file.parse(text, where), where)


def is_path(path: str) -> bool:
    """Return whether a text is a path of keys."""
    return all(path.strip().split("."))


def with_value(document: Mapping[str, object], path: str, value: Callable[[], object], where: str) -> dict[str, object]:
    """Return the document with the value of one path changed.

    Args:
        document: of a recipe.
        path: keys with dots between them.
        value: returns the new value; called after the path is checked.
        where: the option, for messages.

    Raises:
        RecipeError: a path whose parent does not exist.
    """
    parts = path.strip().split(".")
    changed = copy.deepcopy(dict(document))
    stages = changed.get("stages")
    if len(parts) > 1 and isinstance(stages, dict) and parts[0] in stages:
        parts = ["stages", *parts]
    if parts[0] == "gates" and len(parts) > 1:  # optional in a file
        changed.setdefault("gates", {})
    group: object = changed
    for depth, part in enumerate(parts[:-1]):
        if not isinstance(group, dict) or part not in group:
            known = [*(group if isinstance(group, dict) else []), *(stages if depth == 0 and isinstance(stages, dict) else [])]
            raise RecipeError(f"{where}: there is no '{'.'.join(parts[: depth + 1])}'{did_you_mean(part, known)}")
        group = group[part]
    if not isinstance(group, dict):
        raise RecipeError(f"{where}: '{'.'.join(parts[:-1])}' is a value, not a group of keys")
    group[parts[-1]] = value()
    return changed
