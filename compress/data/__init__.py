"""What a task is: presets, loading data, encoding, metrics."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from compress.core import yaml_file
from compress.core.errors import RecipeError, did_you_mean
from compress.core.validation import validate
from compress.data.spec import TaskSpec


@cache
def presets() -> dict[str, TaskSpec]:
    """Return the presets by name."""
    document = yaml_file.read(Path(__file__).with_name("presets.yaml"))
    return {name: validate(TaskSpec, {"name": name, **fields}, f"preset {name}", RecipeError) for name, fields in document.items()}


def resolve(task: str | dict[str, Any] | TaskSpec, folder: Path | None = None) -> TaskSpec:
    """Turn a preset's name, a YAML file's path or a mapping into a `TaskSpec`, local files made absolute.

    `folder` is where relative paths start (a recipe's or task file's own folder; by default the current one).

    Raises:
        RecipeError: no such preset or file, or a malformed task.
    """
    if isinstance(task, TaskSpec):
        return task
    if isinstance(task, str):
        if task in presets():
            return presets()[task]
        path = (folder or Path()) / task
        if path.suffix not in {".yaml", ".yml"}:
            raise RecipeError(
                f"unknown task '{task}'{did_you_mean(task, presets())}",
                "'compress tasks list' shows the presets; a task file ends in .yaml",
            )
        return _absolute(
            validate(TaskSpec, {"name": re.sub(r"[^\w.-]", "-", path.stem)[:64], **yaml_file.read(path)}, str(path), RecipeError),
            path.parent,
        )
    return _absolute(validate(TaskSpec, task, "task", RecipeError), folder or Path())


def _absolute(spec: TaskSpec, folder: Path) -> TaskSpec:
    files = spec.local_files()
    return spec.with_files({split: str(folder / path) for split, path in files.items()}) if files else spec
