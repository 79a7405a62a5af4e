"""The points of a sweep: a recipe x a grid of values x seeds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compress.core import digests, yaml_file
from compress.core.errors import RecipeError, UsageError
from compress.recipe import load as loading
from compress.recipe.overrides import is_path, with_value
from compress.recipe.schema import Recipe

NAME_LIMIT = 100  # letters in the name of a folder
Grid = Mapping[str, Sequence[object]]  # values by path, such as slim.target_speedup


@dataclass(frozen=True)
class GridPoint:
    """One recipe of a sweep. `values` are those of the grid, by path."""

    values: dict[str, object]
    seed: int
    recipe: Recipe

    @property
    def setting(self) -> str:
        """The values as text, the same for all seeds: `slim.target_speedup=2`."""
        return setting_of(self.values)

    @property
    def label(self) -> str:
        """The values and the seed as text."""
        return ", ".join(text for text in (self.setting, f"seed {self.seed}") if text)

    @property
    def folder(self) -> str:
        """Where the run of this point is, relative to the folder of the sweep."""
        return "/".join(part for part in ("points", _file_name(self.setting), f"seed-{self.seed}") if part)


def setting_of(values: Mapping[str, object]) -> str:
    """Return the values of a grid as text."""
    return ", ".join(f"{path}={value}" for path, value in values.items())


def parse_grid(texts: Sequence[str]) -> dict[str, list[object]]:
    """Read `a.b=1,2,3` texts, one per path.

    Raises:
        UsageError: no `=`, no value, or a path given twice.
        RecipeError: a value is not YAML.
    """
    grid: dict[str, list[object]] = {}
    for text in texts:
        path, equals, listed = text.partition("=")
        path = path.strip()
        if not equals or not is_path(path) or not listed.strip():
            raise UsageError(f"--grid {text}: write it as path=value,value", "for example --grid slim.target_speedup=2,3,4")
        if path in grid:
            raise UsageError(f"--grid {text}: {path} was given before", "list all its values in one --grid")
        values = yaml_file.parse(f"[{listed}]", f"--grid {text}")
        grid[path] = values if isinstance(values, list) else [values]
    return grid


def grid_points(
    document: Mapping[str, object], where: str, grid: Grid, seeds: Sequence[int] | None, files: Mapping[str, str] | None = None
) -> list[GridPoint]:
    """Return the points of a sweep, seeds innermost, every recipe checked.

    Args:
        document: of the recipe, with absolute paths.
        where: the recipe's file, for messages.
        grid: values by path; several paths multiply. Empty: the recipe as it is.
        seeds: replace the recipe's own; None: it keeps its own.
        files: local files by split that replace those of the task.

    Raises:
        UsageError: a value or seed twice, no value, a path that is the seed, or seeds for a recipe whose stages all have their own.
        RecipeError: a path or value that the recipe does not take.
    """
    _check(document, grid, seeds)
    points = []
    for combination in itertools.product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        changed = document
        for path, value in values.items():
            changed = with_value(changed, path, lambda value=value: value, f"--grid {path}")
        for seed in seeds or (None,):
            at = f"{where} with {setting_of(values)}" if values else where
            seeded = changed if seed is None else {**changed, "seed": seed}
            recipe = loading.checked(seeded, at, dict(files) if files else None)
            points.append(GridPoint(values, recipe.seed, recipe))
    return points


def _check(document: Mapping[str, object], grid: Grid, seeds: Sequence[int] | None) -> None:
    if "seed" in grid:
        raise UsageError("the seed is not a value of the grid", "give the seeds with --seeds")
    for path, values in grid.items():
        if not values:
            raise UsageError(f"--grid {path}: there is no value")
        texts = [str(value) for value in values]  # points are known by them, so that '1' and 1 are the same, too
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise UsageError(f"--grid {path}: the value {twice[0]} was given twice", "leave one of them out")
    if seeds is None:
        return
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"the seed {next(seed for seed in seeds if seeds.count(seed) > 1)} was given twice")
    stages = document.get("stages")
    fixed = isinstance(stages, dict) and all(isinstance(stage, dict) and {"seed", "seeds"} & stage.keys() for stage in stages.values())
    if fixed and len(seeds) > 1:
        raise RecipeError("every stage of the recipe has its own seed, so all seeds would give the same", "remove 'seed' from its stages")


def _file_name(setting: str) -> str:
    """Return a setting as the name of a folder; a digest keeps names apart that had to be changed."""
    name = re.sub(r"[^\w.=+-]+", "_", setting.replace(", ", "_"))[:NAME_LIMIT]
    changed = name != setting.replace(", ", "_")
    return f"{name}-{digests.digest_json(setting)[:8]}" if changed else name
