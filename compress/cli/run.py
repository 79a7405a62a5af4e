"""`compress run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from compress.cli.options import SectionCommand, option
from compress.core import console
from compress.core.errors import GateMissed
from compress.settings.base import INPUT, TASK

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe


@click.command("run", cls=SectionCommand, short_help="Run a whole recipe; resumes where it stopped.")
@click.argument("recipe")
@option("-o", "--output", section=INPUT, type=click.Path(), metavar="DIR", help="Run folder.  [default: runs/NAME]")
@option("--dry-run", section=INPUT, is_flag=True, help="Show which stages are cached and which would run; write nothing.")
@option("--set", "overrides", section=INPUT, multiple=True, metavar="a.b=c", help="Change a value of the recipe, such as student.epochs=5.")
@option("--train", section=TASK, metavar="FILE", help="Local training file instead of the task's, with the same columns.")
@option("--validation", section=TASK, metavar="FILE", help="Local validation file instead of the task's, with the same columns.")
@option("--test", section=TASK, metavar="FILE", help="Local test file instead of the task's, with the same columns.")
def run_command(
    recipe: str, output: str | None, overrides: tuple[str, ...], train: str | None, validation: str | None, test: str | None, dry_run: bool
) -> None:
    """Run a whole recipe; resumes where it stopped.

    RECIPE is the name of a ready recipe or a YAML file. Stages whose settings, inputs, data, seed and code are unchanged are
    skipped. The run folder holds every stage, manifest.json, report.html, and model/, ready to serve.

    \b
    Examples:
      compress run demo
      compress run demo --set student.epochs=5 --dry-run
      compress run sst2.yaml --train a.parquet --validation b.parquet -o runs/mine
    """
    from compress import api
    from compress.recipe import load as loading

    files = {split: path for split, path in (("train", train), ("validation", validation), ("test", test)) if path}
    loaded = loading.load(recipe, overrides, files or None)
    folder = Path(output) if output else api.default_output(loaded)
    if dry_run:
        _show_plan(loaded, folder, overrides)
        return
    from compress.cli.report import show_summary
    from compress.recipe.run import run_recipe

    try:
        document = run_recipe(loaded, folder)
    except GateMissed:
        if not console.is_json() and (folder / "manifest.json").is_file():  # a stage's own gate ends the run before that
            show_summary(folder)
        raise
    console.result(document | {"report": str(folder / "report.html")}, lambda: show_summary(folder))


def _show_plan(recipe: Recipe, folder: Path, overrides: tuple[str, ...]) -> None:
    """Print the stages, and the values that were changed."""
    from compress.recipe.plan import plan_run

    planned = list(plan_run(recipe, folder))
    stages = [
        {
            "stage": item.stage.name,
            "verb": item.stage.verb.name,
            "from": list(item.stage.sources),
            "plan": "cached" if item.cached else "run",
            "key": item.key,
        }
        for item in planned
    ]

    def human() -> None:
        rows = [
            [str(number), entry["stage"], entry["verb"], ", ".join(entry["from"]), entry["plan"], (entry["key"] or "not known yet")[:16]]
            for number, entry in enumerate(stages, 1)
        ]
        console.table(["#", "stage", "verb", "from", "plan", "key"], rows, f"{recipe.name} in {folder}")
        for override in overrides:
            print(f"set {override}")

    console.result({"output": str(folder), "recipe": recipe.name, "stages": stages}, human)
