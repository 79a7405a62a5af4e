"""`compress sweep`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compress.cli.options import SectionCommand, option
from compress.core import console
from compress.core.errors import PointsFailed
from compress.settings.base import HARDWARE, INPUT, METHOD, RAY, TASK

if TYPE_CHECKING:
    from compress.search.sweep import Sweep

OUTPUT = "Folder to write: a run folder for each point, sweep.json and report.html."
GRID = "Values of one path, such as slim.target_speedup=2,3,4. Several: repeat the option; all combinations are run."
STORE = "Folder with finished stages, which several sweeps may share.  [default: store in the output]"


@click.command("sweep", cls=SectionCommand, short_help="Run a recipe for a grid of values and several seeds; one table and report.")
@click.argument("recipe")
@option("-o", "--output", section=INPUT, required=True, type=click.Path(), metavar="DIR", help=OUTPUT)
@option("--store", section=INPUT, type=click.Path(), metavar="DIR", help=STORE)
@option("--dry-run", section=INPUT, is_flag=True, help="Show the points and how many of their stages are in the store; write nothing.")
@option("--grid", section=METHOD, multiple=True, metavar="a.b=c,d", help=GRID)
@option("--seeds", section=METHOD, multiple=True, several=True, type=int, help="Seeds, such as 0 1 2.  [default: the recipe's]")
@option("--set", "overrides", section=METHOD, multiple=True, metavar="a.b=c", help="Change a value of the recipe for all points.")
@option("--train", section=TASK, metavar="FILE", help="Local training file instead of the task's, with the same columns.")
@option("--validation", section=TASK, metavar="FILE", help="Local validation file instead of the task's, with the same columns.")
@option("--test", section=TASK, metavar="FILE", help="Local test file instead of the task's, with the same columns.")
@option("--ray", section=HARDWARE, metavar="ADDRESS", help=RAY)
def sweep_command(
    recipe: str,
    output: str,
    store: str | None,
    dry_run: bool,
    grid: tuple[str, ...],
    seeds: tuple[int, ...],
    overrides: tuple[str, ...],
    train: str | None,
    validation: str | None,
    test: str | None,
    ray: str | None,
) -> None:
    """Run a recipe for a grid of values and several seeds; one table and report.

    RECIPE is the name of a ready recipe or a YAML file. A stage that several points share runs once. A sweep that was stopped
    resumes. A point that fails does not stop the others; at the end its exit code is that of the sweep.

    \b
    Examples:
      compress sweep sst2 --grid slim.target_speedup=2,3,4,6 --seeds 0 1 2 -o sweep
      compress sweep mine.yaml --grid student.epochs=3,6 --grid student.lr=1e-4,2e-4 -o sweep
      compress sweep mine.yaml --grid slim.target_speedup=2,3,4,6 -o /shared/sweep --ray auto
    """
    from compress.search.grid import parse_grid
    from compress.search.sweep import load_sweep, run_sweep

    files = {split: path for split, path in (("train", train), ("validation", validation), ("test", test)) if path}
    sweep = load_sweep(recipe, parse_grid(grid), seeds or None, overrides, files)
    folder, stages = Path(output), Path(store) if store else None
    if dry_run:
        _show_plan(sweep, folder, stages)
        return
    try:
        document: Mapping[str, Any] = run_sweep(sweep, folder, ray, stages)
    except PointsFailed as error:
        if not console.is_json():
            show_sweep(error.document)
        raise
    console.result({**document}, lambda: show_sweep(document))


def _show_plan(sweep: Sweep, output: Path, store: Path | None) -> None:
    """Print the points."""
    from compress.search.sweep import different_stages, stored_counts

    counts = stored_counts(sweep, output, store)
    points = [
        {"values": point.values, "seed": point.seed, "stages": total, "stored": stored}
        for point, (stored, total) in zip(sweep.points, counts, strict=True)
    ]
    different = different_stages(sweep)

    def human() -> None:
        rows = [[*map(str, entry["values"].values()), *(str(entry[key]) for key in ("seed", "stages", "stored"))] for entry in points]
        console.table([*sweep.grid, "seed", "stages", "in the store"], rows, f"{sweep.recipe} in {output}: {different} different stages")

    console.result({"output": str(output), "recipe": sweep.recipe, "points": points, "different_stages": different}, human)


def show_sweep(document: Mapping[str, Any]) -> None:
    """Print mean and spread of each setting, and where everything is."""
    from compress.report.formatting import metric_name

    paths = list(document["grid"])
    score = metric_name(document["metric"] or "score")
    columns = [*paths, "seeds", score, "change", "p50 ms", "speedup", "MB", "gates", "failed"]
    rows = [[*(str(entry["values"][path]) for path in paths), *_cells(entry)] for entry in document["settings"]]
    used = [position for position in range(len(columns)) if position < len(paths) or any(row[position] != "-" for row in rows)]
    console.table([columns[position] for position in used], [[row[position] for position in used] for row in rows])
    for point in document["points"]:
        if point["failure"]:
            values = ", ".join([f"{path}={value}" for path, value in point["values"].items()] + [f"seed {point['seed']}"])
            print(f"failed: {values}: {point['failure']['message']}")
    print(f"points: {Path(document['output']) / 'points'}")
    print(f"report: {Path(document['output']) / 'report.html'}")


def _cells(entry: Mapping[str, Any]) -> list[str]:
    def spread(key: str, digits: int = 2, scale: float = 1, sign: str = "") -> str:
        value = entry[key]
        if value is None:
            return "-"
        deviation = "" if value["std"] is None else f" ± {scale * value['std']:.{digits}f}"
        mean = round(scale * value["mean"], digits) + 0.0  # no minus sign before a rounded zero
        return f"{mean:{sign}.{digits}f}{deviation}"

    return [
        str(entry["finished"]),
        spread("score", 2, 100),
        spread("delta_points", 2, sign="+"),
        spread("p50_ms"),
        spread("speedup"),
        spread("size_mb", 1),
        f"{entry['gates_missed']} missed" if entry["gates_missed"] else "-",
        str(entry["failed"]) if entry["failed"] else "-",
    ]
