"""Find, read and check recipes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compress.core import yaml_file
from compress.core.errors import RecipeError, did_you_mean
from compress.data import presets
from compress.data.spec import TaskSpec
from compress.recipe.check import check_recipe
from compress.recipe.overrides import overridden
from compress.recipe.paths import anchored
from compress.recipe.schema import Recipe


def recipes_folder() -> Path:
    """Return the folder of the ready recipes: in the installed package, or next to it in a checkout."""
    package = Path(__file__).parent.parent
    shipped = package / "recipes"
    return shipped if shipped.is_dir() else package.parent / "recipes"


def ready_recipes() -> dict[str, Path]:
    """Return the ready recipes by name."""
    return {path.stem: path for path in sorted(recipes_folder().glob("*.yaml"))}


def find(name: str) -> Path:
    """Return the file of a ready recipe, or of a path.

    Raises:
        RecipeError: there is neither.
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
    """Read a recipe, apply `a.b=c` overrides and check it; `files` maps splits to local files that replace those of the task.

    Raises:
        RecipeError: the file, an override, or the result is malformed.
    """
    document, where = read_document(name, overrides)
    return checked(document, where, files)


def read_document(name: str, overrides: tuple[str, ...] = ()) -> tuple[Mapping[str, object], str]:
    """Return the document of a recipe with `a.b=c` overrides, not yet checked, and its file's name for messages.

    Raises:
        RecipeError: there is no such recipe, it is not readable, or an override does not fit it.
    """
    path = find(name)
    document: Mapping[str, object] = anchored(yaml_file.read(path), path.parent)
    for override in overrides:
        document = overridden(document, override)
    return document, str(path)


def build(document: Mapping[str, object], where: str, folder: Path, files: dict[str, str] | None = None) -> Recipe:
    """Check a recipe's document; relative paths start at `folder`, `files` maps splits to files that replace those of the task."""
    return checked(anchored(document, folder), where, files)


def checked(document: Mapping[str, object], where: str, files: dict[str, str] | None) -> Recipe:
    """Check a recipe's document whose paths are absolute; `files` maps splits to files that replace those of the task."""

    def resolve_task(task: presets.TaskLike) -> TaskSpec:
        spec = presets.resolve(task)
        return spec.with_files(files) if files else spec

    if files and document.get("task") is None:
        raise RecipeError(f"{where}: local files were given and the recipe has no task")
    return check_recipe(document, resolve_task, where)
