"""A sweep: a recipe x a grid of values x seeds, with one table and one report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from compress.core import files, locks, outputs
from compress.core.errors import CompressError, PointsFailed
from compress.recipe import load as loading
from compress.recipe.events import logged_events
from compress.recipe.resolve import resolved
from compress.recipe.workspace import external_models
from compress.results.sweeps import SweepDocument
from compress.search.executor import Executor, RecipeOutcome, check_recipes, run_recipes
from compress.search.executors import check_ray, opened
from compress.search.grid import Grid, GridPoint, grid_points
from compress.search.jobs import job_graph
from compress.search.progress import SweepProgress
from compress.search.run_folder import write_run_folder
from compress.search.store import Store, check_one_process, stored_stages
from compress.search.sweep_results import PointRun, sweep_document

SWEEP_FILE = "sweep.yaml"  # what is swept
RESULT_FILE = "sweep.json"


@dataclass(frozen=True)
class Sweep:
    """What is swept."""

    grid: Grid
    points: list[GridPoint]

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self.points[0].recipe.name

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return list(dict.fromkeys(point.seed for point in self.points))


def load_sweep(
    recipe: str,
    grid: Grid,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    local_files: Mapping[str, str] | None = None,
) -> Sweep:
    """Read a recipe and check every point of its sweep.

    Args:
        recipe: a ready recipe's name or a file.
        grid: values by path.
        seeds: None: the recipe's own.
        overrides: changes that all points share, as after `--set`.
        local_files: files by split that replace those of the task.

    Raises:
        UsageError, RecipeError: as `grid_points` raises them.
    """
    document, where = loading.read_document(recipe, tuple(overrides))
    return Sweep(grid, grid_points(document, where, grid, seeds, local_files))


def run_sweep(sweep: Sweep, output: Path, ray: str | None = None, store: Path | None = None) -> SweepDocument:
    """Run every point of a sweep, each shared stage once; write a run folder for each, `sweep.json` and `report.html`.

    A sweep that was stopped resumes. A point that fails does not stop the others, and a missed gate is no failure.

    Args:
        sweep: what is swept.
        output: the folder to write.
        ray: where stages run, see `executors.opened`.
        store: the folder with finished stages, which other sweeps may share; by default `store` in the output.

    Raises:
        PointsFailed: after everything is written, if a point failed.
        UsageError: the output holds something else.
        Locked: another process writes the output.
        CompressError: the model or the data is unavailable, or the cluster is.
    """
    started, output = time.monotonic(), outputs.nameable(output)
    outputs.check_output(output, external_models(sweep.points[0].recipe))
    check_one_process()
    stages = Store(store or output / "store")
    stages.check()
    if ray:
        check_ray(ray)
    with locks.locked(output):
        outputs.check_content(output, [SWEEP_FILE], "is not the folder of a sweep")
        check_recipes([point.recipe for point in sweep.points], stages)
        with opened(ray) as executor:
            document = _write_sweep(sweep, output, stages, executor, live=ray is not None)
        document["seconds"] = time.monotonic() - started
        _write(document, output)
    _raise_if_failed(document)
    return document


def _write_sweep(sweep: Sweep, output: Path, store: Store, executor: Executor, live: bool) -> SweepDocument:
    """Run the points and write their folders."""
    output.mkdir(exist_ok=True)
    described = {"grid": {path: list(values) for path, values in sweep.grid.items()}, "seeds": sweep.seeds}
    first = yaml.safe_dump({**described, "first": resolved(sweep.points[0].recipe)}, sort_keys=False, allow_unicode=True)
    files.write_text(output / SWEEP_FILE, first)
    points = {point.label: point for point in sweep.points}
    recipes = {label: point.recipe for label, point in points.items()}
    graph = job_graph(recipes)
    with logged_events(output / "events.jsonl"):
        with SweepProgress(graph, live) as progress:
            outcomes = run_recipes(recipes, store, executor, observer=progress.observe)
        runs = [_finish_point(points[label], outcome, store, output) for label, outcome in outcomes.items()]
        return sweep_document(runs, sweep.grid, output, store.folder, graph, progress.places)


def stored_counts(sweep: Sweep, output: Path, store: Path | None = None) -> list[tuple[int, int]]:
    """Return for each point how many of its stages are in the store, and how many it has; nothing runs."""
    known = Store(store or output / "store")
    known.check()
    return [(len(stored_stages(point.recipe, known)), len(point.recipe.stages)) for point in sweep.points]


def different_stages(sweep: Sweep) -> int:
    """Return how many stages the points have in all, those that they share counted once."""
    return len(job_graph({point.label: point.recipe for point in sweep.points}).jobs)


def _finish_point(point: GridPoint, outcome: RecipeOutcome, store: Store, output: Path) -> PointRun:
    """Write the run folder of a point whose stages are finished."""
    if outcome.error is not None:
        return PointRun(point, outcome)
    try:
        return PointRun(point, outcome, write_run_folder(point.recipe, store, outcome.stages, output / point.folder))
    except CompressError as error:
        return PointRun(point, RecipeOutcome(outcome.stages, error))


def _write(document: SweepDocument, output: Path) -> None:
    from compress.report.sweep_page import sweep_page

    files.write_json(output / RESULT_FILE, document)
    files.write_text(output / "report.html", sweep_page({**document}))


def _raise_if_failed(document: SweepDocument) -> None:
    failed = [point for point in document["points"] if point["failure"] is not None]
    if not failed:
        return
    first = failed[0]
    failure = first["failure"]
    assert failure is not None  # noqa: S101
    values = ", ".join([f"{path}={value}" for path, value in first["values"].items()] + [f"seed {first['seed']}"])
    at = f"{values}, stage {failure['stage']}" if failure["stage"] else values
    message = f"{len(failed)} of {len(document['points'])} points failed; the first ({at}): {failure['message']}"
    raise PointsFailed(message, failure["hint"], failure["exit_code"], {**document})
