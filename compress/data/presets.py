"""Tasks by name: presets, task files and mappings become a `TaskSpec`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from compress.core import yaml_file
from compress.core.errors import RecipeError, did_you_mean
from compress.core.validation import validate
from compress.data.dataset_objects import is_dataset
from compress.data.spec import TaskSpec

TaskLike = str | Mapping[str, object]  # a preset's name, a task file's path, or the keys of a task file, and `data`: Dataset objects


@cache
def presets() -> dict[str, TaskSpec]:
    """Return the presets by name."""
    document = yaml_file.read(Path(__file__).with_name("presets.yaml"))
    return {name: validate(TaskSpec, {"name": name, **fields}, f"preset {name}", RecipeError) for name, fields in document.items()}


def resolve(task: TaskLike | TaskSpec, folder: Path | None = None) -> TaskSpec:
    """Turn a preset's name, the path of a YAML file or a mapping into a `TaskSpec` with absolute paths.

    A mapping has the keys of a task file; in Python also `data`, a `datasets.Dataset` or `DatasetDict`. With `preset` and `data`
    only, the preset's columns and labels are used.

    Args:
        task: to resolve.
        folder: where relative paths start; by default the current folder. Those of a task file start at its own folder.

    Raises:
        RecipeError: no such preset or file, or a malformed task.
    """
    if isinstance(task, TaskSpec):
        return task
    if isinstance(task, str):
        return _named(task, folder or Path())
    if set(task) == {"data"} or ("data" not in task and any(map(is_dataset, task.values()))):
        raise RecipeError(
            "a data set alone is no task: its columns are missing", "task={'text': ['sentence'], 'label': 'label', 'data': data}"
        )
    if "preset" in task:
        return _preset_with_data(task)
    return _absolute(validate(TaskSpec, task, "task", RecipeError), folder or Path())


def _named(name: str, folder: Path) -> TaskSpec:
    """Return a preset, or the task of a YAML file."""
    if name in presets():
        return presets()[name]
    path = folder / name
    if path.suffix not in {".yaml", ".yml"}:
        raise RecipeError(
            f"unknown task '{name}'{did_you_mean(name, presets())}",
            "'compress tasks list' shows the presets; a task file ends in .yaml",
        )
    document = {"name": re.sub(r"[^\w.-]", "-", path.stem)[:64], **yaml_file.read(path)}
    return _absolute(validate(TaskSpec, document, str(path), RecipeError), path.parent)


def _preset_with_data(task: Mapping[str, object]) -> TaskSpec:
    """Return a preset with `Dataset` objects instead of its own data."""
    name, unknown = str(task["preset"]), [key for key in task if key not in ("preset", "data")]
    if unknown or "data" not in task:
        raise RecipeError(
            "task: 'preset' takes 'data' and no other key", "write the preset's columns out to change them: compress tasks list"
        )
    fields = _named(name, Path()).model_dump() | {"hub": None, "builtin": None, "train": None, "validation": None, "test": None}
    return validate(TaskSpec, {**fields, "data": task["data"]}, "task", RecipeError)


def _absolute(spec: TaskSpec, folder: Path) -> TaskSpec:
    files = spec.local_files()
    if spec.beir:
        run = {"run": str((folder / spec.run).absolute())} if spec.run else {}
        if spec.retriever and (folder / spec.retriever).is_dir():
            run = {"retriever": str((folder / spec.retriever).absolute())}
        beir = {"beir": str((folder / spec.beir).absolute())} if (folder / spec.beir).is_dir() else {}
        return spec.model_copy(update={**beir, **run})
    return spec.with_files({split: str(folder / path) for split, path in files.items()}) if files else spec
