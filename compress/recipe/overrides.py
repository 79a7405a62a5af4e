"""Overrides of a recipe: `--set path=value`."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from compress.core import yaml_file
from compress.core.errors import RecipeError, did_you_mean


def overridden(document: Mapping[str, object], override: str) -> dict[str, object]:
    """Return the document with one `path=value` applied; `student.epochs` is short for `stages.student.epochs`.

    Raises:
        RecipeError: no `=`, or a path whose parent does not exist.
    """
    path, equals, text = override.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override}: write it as path=value", "for example --set student.epochs=5")
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
            raise RecipeError(f"--set {override}: there is no '{'.'.join(parts[: depth + 1])}'{did_you_mean(part, known)}")
        group = group[part]
    if not isinstance(group, dict):
        raise RecipeError(f"--set {override}: '{'.'.join(parts[:-1])}' is a value, not a group of keys")
    group[parts[-1]] = yaml_file.parse(text, f"--set {override}")
    return changed
