"""Relative paths in a recipe file: they start at the folder of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from compress.data.dataset_objects import SPLITS
from compress.recipe.verbs import DATA_FILES, MODEL_SETTINGS

MODEL_KEYS = ("from", "teacher", "student", *MODEL_SETTINGS)  # of a stage


def anchored(document: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return a recipe's document with absolute paths in place of those relative to its folder.

    These are model paths that start with `./` or `../`, a task file, the files of a task and the data files of stages. Paths that the
    command line sets later start at the current folder.
    """
    changes: dict[str, Callable[[object], object]] = {
        "model": lambda model: _model(model, folder),
        "task": lambda task: _task(task, folder),
        "stages": lambda stages: _stages(stages, folder),
    }
    return {key: changes[key](value) if key in changes else value for key, value in document.items()}


def _file(name: str, folder: Path) -> str:
    return str((folder / name).absolute())


def _model(value: object, folder: Path) -> object:
    if isinstance(value, list):
        return [_model(item, folder) for item in value]
    return str((folder / value).resolve()) if isinstance(value, str) and value.startswith(("./", "../")) else value


def _task(task: object, folder: Path) -> object:
    if isinstance(task, str) and task.endswith((".yaml", ".yml")):
        return _file(task, folder)
    if isinstance(task, dict):
        files = {key: _file(value, folder) for key, value in task.items() if key in SPLITS and isinstance(value, str)}
        run = {"run": _file(task["run"], folder)} if isinstance(task.get("run"), str) else {}
        return {**task, **files, **run, **{key: _model(task[key], folder) for key in ("beir", "retriever") if key in task}}
    return task


def _stages(stages: object, folder: Path) -> object:
    if not isinstance(stages, dict):
        return stages
    return {name: _stage(fields, folder) if isinstance(fields, dict) else fields for name, fields in stages.items()}


def _stage(fields: Mapping[str, object], folder: Path) -> dict[str, object]:
    changed = dict(fields)
    for key, value in fields.items():
        if key in DATA_FILES and isinstance(value, str):
            changed[key] = _file(value, folder)
        elif key in MODEL_KEYS:
            changed[key] = _model(value, folder)
    return changed
