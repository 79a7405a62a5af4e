"""`compress prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, option, settings_options
from compress.cli.task_options import required_task, task_options
from compress.core import console
from compress.settings import PruneSettings
from compress.settings.base import INPUT

if TYPE_CHECKING:
    from compress.results import PrunePlan
    from compress.results.objects import PruneResult

KEYS = (
    "output", "up_to_date", "target", "method", "predicted_speedup", "measured_speedup", "measured", "params", "flops", "layers",
    "metrics", "curve", "models", "seconds",
)  # fmt: skip


@click.command(
    "prune", cls=SectionCommand, short_help="Remove attention heads and FFN neurons; or layers, hidden dimensions, tokens, weights."
)
@click.argument("model")
@common.optional_output
@task_options
@settings_options(PruneSettings)
@option("--dry-run", section=INPUT, is_flag=True, help="Print the plan and the predicted latency; write nothing.")
@common.seed_option
@common.overwrite_option
def prune_command(model: str, output: str | None, dry_run: bool, seed: int, overwrite: bool, **values: object) -> None:
    """Remove attention heads and FFN neurons; or layers, hidden dimensions, tokens, weights.

    Writes a small, fast checkpoint, not a mask; 'compress.load_model(DIR)' and every other verb load it. The methods obs and
    fisher refit it to the dense model on a few calibration texts, without labels. --recover-epochs distils on all texts.

    \b
    Examples:
      compress prune teacher --task sst2 --target-speedup 3 -o slim
      compress prune teacher --task sst2 --target-speedup 2 3 4 -o family
      compress prune teacher --task sst2 --max-drop 1 --precision int8 -o slim
      compress prune teacher --task bbc-news --target-flops 0.5 --recover-epochs 3 -o slim
    """
    from compress import api
    from compress.core.errors import UsageError

    task = required_task("prune", values)
    settings = given(PruneSettings, values)
    if dry_run:
        document = api.plan_prune(model, task, seed=seed, **settings)
        console.result(document, lambda: _show_plan(document))
        return
    if output is None:
        raise UsageError("no output folder was given", "add -o DIR, or --dry-run to see the plan only")
    document = api.prune(model, task, output, seed=seed, overwrite=overwrite, **settings)
    console.result({key: document[key] for key in KEYS if key in document}, lambda: _show(document))


def _show(document: PruneResult) -> None:
    """Print the steps and the models that were written."""
    from compress.models.sketch import sketch_curve

    points = [point for point in document.get("curve") or [] if point.get("score") is not None]
    if len(points) > 1:
        print(sketch_curve(points))
    for model in document.get("models") or [document]:
        speed = f"measured {model['measured_speedup']:.2f}x as fast" if model.get("measured_speedup") else "not faster"
        where = f"{document['output']}/{model['folder']}: " if "models" in document else ""
        print(f"{where}{model['params']:,} parameters, {speed}")
    common.show_output(document)


def _show_plan(document: PrunePlan) -> None:
    from compress.models.sketch import sketch_layers

    print(f"{document['serving']}: {document['latency_ms']:.2f} ms before pruning")
    for plan in document["plans"]:
        latency = f", {plan['predicted_latency_ms']:.2f} ms" if plan.get("predicted_latency_ms") else ""
        print(f"{plan['target']}: predicted {plan['predicted_speedup']:.2f}x{latency}, {100 * plan['flops_kept']:.1f} % of the FLOPs")
        print(sketch_layers(plan["layers"]))
    print("(planned from one pass of scores; the real run prunes in steps and times each model)")
