"""`compress auto`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, option, settings_options
from compress.cli.task_options import required_task, task_options
from compress.core import console
from compress.core.errors import GateMissed, Stopped
from compress.settings.auto import AutoSettings
from compress.settings.base import BUDGET, HARDWARE, INPUT, RAY

if TYPE_CHECKING:
    from compress.results.objects import AutoResult
    from compress.results.search import SearchDocument, SearchPlan

OUTPUT = "Folder to write; a stopped search resumes in it."


@click.command("auto", cls=SectionCommand, short_help="Find the best model for an accuracy budget or a latency, and prove it.")
@click.argument("model")
@option("-o", "--output", section=INPUT, required=True, type=click.Path(), metavar="DIR", help=OUTPUT)
@option("--teacher", section=INPUT, metavar="MODEL", help="A bigger fine-tuned model to learn from.  [default: MODEL itself]")
@option(
    "--store",
    section=BUDGET,
    type=click.Path(),
    metavar="DIR",
    help="Folder of finished stages, shared by searches.  [default: OUTPUT/stages]",
)
@option("--dry-run", section=INPUT, is_flag=True, help="Show the plan, and what its steps are expected to take; write nothing.")
@task_options
@settings_options(AutoSettings)
@option("--ray", section=HARDWARE, metavar="ADDRESS", help=RAY)
@common.seed_option
def auto_command(
    model: str, output: str, teacher: str | None, store: str | None, dry_run: bool, ray: str | None, seed: int, **values: Any
) -> None:
    """Find the best model for an accuracy budget or a latency, and prove it.

    Fine-tunes MODEL if its head is not trained for the task, then tries int8, students without an encoder, pruned sizes and their
    distillation, and tunes the best. Writes model/, recipe.yaml, which 'compress run' repeats, and report.html. The answer is judged
    on test data, or on a part of validation, that chose nothing. Stopped by Ctrl-C, it delivers the best so far.

    \b
    Examples:
      compress auto teacher --task sst2 --max-drop 1 --budget 45m -o out
      compress auto google-bert/bert-base-uncased --train train.csv --text text --label label --max-drop 1 -o out
      compress auto teacher --task task.yaml --target-latency-ms 2 --threads 2 -o out
      compress auto teacher --task bbc-news --max-drop 2 --smallest -o out --dry-run
    """
    from compress import api

    task = required_task("auto", values)
    settings = given(AutoSettings, values)
    if dry_run:
        plan = api.plan_auto(model, task, output, teacher=teacher, store=store, seed=seed, **settings)
        console.result({**plan}, lambda: _show_plan(plan))
        return
    try:
        document = api.auto(model, task, output, teacher=teacher, store=store, ray=ray, seed=seed, **settings)
    except (GateMissed, Stopped) as ended:
        if not console.is_json():
            _show(ended.document)  # type: ignore[arg-type]
        raise
    console.result(document, lambda: _show(document))


def _show_plan(plan: SearchPlan) -> None:
    """Print the plan."""
    for line in plan["log"][:-1]:
        print(line)
    sections = (("start", plan["start"]), ("then", plan["later"]))
    rows = [
        [title if number == 0 else "", step["what"], "in the store" if step["stored"] else console.duration(step["seconds"])]
        for title, steps in sections
        for number, step in enumerate(steps)
    ]
    console.table(["", "step", "expected"], rows)
    least, budget = plan["least_seconds"], plan["budget_seconds"]
    left = console.duration(max(budget - least, 0.0))
    print(f"the start takes about {console.duration(least)} of {console.duration(budget)}; {left} are left to train and measure sizes")


def _show(document: AutoResult | SearchDocument) -> None:
    """Print the answer."""
    from compress.report.search_words import describe_points

    answer, judged = document["answer"], document["verdict"]
    low, high = document["speedup"]["ci95"]
    print(f"{'answer' if document['kept'] else 'nearest'}: {answer['candidate']} ({answer['model']})")
    speed = f"{document['speedup']['ratio']:.1f}x as fast as the baseline in PyTorch fp32 [{low:.1f}, {high:.1f}]"
    print(f"  {speed}, {answer['latency_ms']:.3g} ms")
    if judged is not None:
        lost = describe_points(judged["drop_points"], judged["drop_ci95"])
        print(f"  {lost} on {judged['split']}, n = {judged['n']}")
    unit = "ms" if document["limit"]["max_drop"] is None else "points"
    for entry in document["tradeoffs"]:
        same = ", the same" if entry["candidate"] == answer["candidate"] else ""
        print(f"  with a limit of {entry['limit']:g} {unit}: {entry['speedup']:.1f}x by {entry['candidate']}{same}")
    print(f"model:  {document['output']}/model")
    print(f"recipe: {document['output']}/recipe.yaml")
    print(f"report: {document['output']}/report.html ({console.duration(document['spent_seconds'])})")
