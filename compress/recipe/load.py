"""Find, read and override recipes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from compress import data as tasks
from compress.core import yaml_file
from compress.core.errors import RecipeError, did_you_mean
from compress.data.dataset_objects import SPLITS
from compress.data.spec import TaskSpec
from compress.recipe.schema import Recipe, check


def recipes_folder() -> Path:
    """Return the folder of the ready recipes: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    shipped = package / "recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def ready_recipes() -> dict[str, Path]:
    """Return the ready recipes by name."""
    return {path.stem: path for path in sorted(recipes_folder().glob("*.yaml"))}


def find(name: str) -> Path:
    """Return the file of a ready recipe's name, or of a path.

    Raises:
        RecipeError: neither.
    """
    ready = ready_recipes()
    if name in ready:
        return ready[name]
    path = Path(name)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError) as error:  # a name that is too long, a NUL
        raise RecipeError(f"{name[:80]!r} cannot be a recipe file: {error}") from error
    if path.suffix in {".yaml", ".yml"} or "/" in name:
        raise RecipeError(f"there is no recipe file {name}", "'compress recipes list' shows the ready ones")
    raise RecipeError(
        f"unknown recipe '{name}'{did_you_mean(name, ready)}", "'compress recipes list' shows the ready ones; a file ends in .yaml"
    )


def load(name: str, overrides: tuple[str, ...] = (), files: dict[str, str] | None = None) -> Recipe:
    """Read a recipe, apply `a.b=c` overrides, put local data files in the place of its task's, and check it.

    Raises:
        RecipeError: the file, an override, or the outcome is malformed.
    """
    path = find(name)
    document = anchored(yaml_file.read(path), path.parent)
    for override in overrides:
        document = overridden(document, override)
    return _checked(document, str(path), files)


def build(document: dict[str, Any], where: str, folder: Path, files: dict[str, str] | None = None) -> Recipe:
    """Check a recipe's document; relative paths start at `folder`, `files` maps splits to files in the place of the task's."""
    return _checked(anchored(document, folder), where, files)


def _checked(document: dict[str, Any], where: str, files: dict[str, str] | None) -> Recipe:

    def resolve_task(task: Any) -> TaskSpec:
        spec = tasks.resolve(task)
        return spec.with_files(files) if files else spec

    if files and document.get("task") is None:
        raise RecipeError(f"{where}: local files were given and the recipe has no task")
    return check(document, resolve_task, where)


def anchored(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a recipe file's document with its relative paths made absolute, so that they start at the recipe's folder.

    These are model paths that start with `./` or `../`, a task file, a task's files and a stage's file of unlabeled texts.
    What the command line overrides later starts at the current folder.
    """

    def anchor(value: Any) -> Any:
        if isinstance(value, list):
            return [anchor(item) for item in value]
        return str((folder / value).resolve()) if isinstance(value, str) and value.startswith(("./", "../")) else value

    result = {key: anchor(value) if key == "model" else value for key, value in document.items()}
    task = document.get("task")
    if isinstance(task, str) and task.endswith((".yaml", ".yml")):
        result["task"] = str((folder / task).absolute())
    elif isinstance(task, dict):
        result["task"] = {
            key: str((folder / value).absolute()) if key in SPLITS and isinstance(value, str) else value for key, value in task.items()
        }
    stages = document.get("stages")
    if isinstance(stages, dict):
        roles = {"from", "teacher", "student", "augment_model"}

        def of_stage(key: str, value: Any) -> Any:
            if key == "unlabeled" and isinstance(value, str):
                return str((folder / value).absolute())
            return anchor(value) if key in roles else value

        result["stages"] = {
            name: {key: of_stage(key, value) for key, value in fields.items()} if isinstance(fields, dict) else fields
            for name, fields in stages.items()
        }
    return result


def overridden(document: dict[str, Any], override: str) -> dict[str, Any]:
    """Return the document with one `path=value` applied; `student.epochs` is short for `stages.student.epochs`.

    Raises:
        RecipeError: no `=`, or a path through something that is not there.
    """
    path, equals, text = override.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set {override}: write it as path=value", "for example --set student.epochs=5")
    document = copy.deepcopy(document)
    stages = document.get("stages")
    if len(parts) > 1 and isinstance(stages, dict) and parts[0] in stages:
        parts = ["stages", *parts]
    place: Any = document
    for depth, part in enumerate(parts[:-1]):
        if part == "gates" and depth == 0:
            place.setdefault("gates", {})
        if not isinstance(place, dict) or part not in place:
            known = [*(place if isinstance(place, dict) else []), *(stages if depth == 0 and isinstance(stages, dict) else [])]
            raise RecipeError(f"--set {override}: there is no '{'.'.join(parts[: depth + 1])}'{did_you_mean(part, known)}")
        place = place[part]
    if not isinstance(place, dict):
        raise RecipeError(f"--set {override}: '{'.'.join(parts[:-1])}' is a value, not a group of keys")
    place[parts[-1]] = yaml_file.parse(text, f"--set {override}")
    return document
