"""Pruning: the stage `prune`.

`PruneContext` holds the dense model and its data, `CostModel` predicts and measures speed, a strategy (`StructuredPruning`,
`CoarsePruning`) makes the model smaller, and `reach` or `fastest_within` drives it to the targets.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compress.core import console
from compress.core.errors import UsageError
from compress.models import shape as shapes
from compress.models.checkpoint import save_model
from compress.models.layer_groups import share_as_before
from compress.models.model_shape import count_params, model_shape
from compress.models.sketch import sketch_layers
from compress.prune.coarse import CoarsePruning
from compress.prune.context import PruneContext
from compress.prune.cost_model import CostModel
from compress.prune.curve import Curve, Pruned
from compress.prune.measurements import measured_cost_model
from compress.prune.methods import COARSE, SIZE_ONLY, STRUCTURED
from compress.prune.scoring import rank_units
from compress.prune.search import solve
from compress.prune.smaller_file import write_smaller_file
from compress.prune.strategy import fastest_within, reach
from compress.prune.structured import TOLERANCE, StructuredPruning
from compress.prune.targets import targets_of
from compress.prune.token_schedules import drop_tokens
from compress.prune.uniform import REMOVED, solve_uniform
from compress.results.checkpoints import PrunedModel, PruneDocument, PrunePlan, PrunePlanEntry
from compress.settings import PruneSettings
from compress.stage import Inputs


def run(inputs: Inputs, settings: PruneSettings, output: Path) -> PruneDocument:
    """Prune to the target and write the small checkpoint; several targets are written to a folder each.

    Raises:
        UsageError: a target that cannot be reached, or a model that the method does not take.
    """
    context = PruneContext(inputs, settings)
    if settings.method in SIZE_ONLY:
        return write_smaller_file(context, output)
    if settings.max_drop is not None:
        _ = context.dense_score  # refuses a task without validation before anything is timed
    return prune_to_targets(context, measured_cost_model(context), output)


def prune_to_targets(context: PruneContext, cost_model: CostModel, output: Path) -> PruneDocument:
    """Prune units, layers or width to the targets, write the checkpoints, and return the results with the curve.

    Raises:
        UsageError: a target that cannot be reached.
    """
    settings, dense = context.settings, context.dense.shape
    curve = Curve(context, cost_model)
    coarse = settings.method in COARSE
    strategy = CoarsePruning(context, cost_model) if coarse else StructuredPruning(context, cost_model, curve)
    if settings.max_drop is not None:
        pruned = fastest_within(strategy, curve, settings.max_drop, context.dense_score)
        results = [_write(context, cost_model, pruned, output)]
    else:
        targets = targets_of(settings, cost_model, context.dense.source.name)
        folders = [output] if len(targets) == 1 else [output / target.name for target in targets]
        models = reach(strategy, curve, targets)
        results = [_write(context, cost_model, pruned, folder) for pruned, folder in zip(models, folders, strict=True)]
    document: PruneDocument = {
        **results[-1],
        "curve": curve.points,
        "layers_before": dense.as_json(),
        "flops_before": dense.flops(context.seq_len),
    }
    return document if len(results) == 1 else {**document, "models": results}


def plan(inputs: Inputs, settings: PruneSettings) -> PrunePlan:
    """Return what one round of scores would cut for each target, and the latency that the costs predict.

    Raises:
        UsageError: a target that cannot be reached, or a method or target without a plan.
    """
    if settings.method not in STRUCTURED or settings.max_drop is not None:
        raise UsageError("there is no plan for this method or target", "only heads and neurons, cut to a given size or speed, have one")
    context = PruneContext(inputs, settings)
    return plan_targets(context, measured_cost_model(context))


def plan_targets(context: PruneContext, cost_model: CostModel) -> PrunePlan:
    """Return the plan of heads and neurons with given costs; see `plan`."""
    settings, dense = context.settings, context.dense
    targets = targets_of(settings, cost_model, dense.source.name)
    model = context.starting_model()
    ranked = rank_units(context, model)
    plans: list[PrunePlanEntry] = []
    for target in targets:
        if settings.tokens == "auto":
            drop_tokens(context, model, ranked, cost_model.costs, target.budget)
        before = model_shape(model)
        costs = cost_model.costs.with_token_shares(before.token_shares)
        kept = (solve_uniform if settings.uniform else solve)(ranked, costs, target.budget)
        remaining = [number for number, layer in enumerate(kept) if not settings.uniform or layer != REMOVED]
        sizes = [(kept[number], before.layers[number].tokens) for number in remaining]
        layers = tuple(shapes.LayerShape(len(units.heads), len(units.neurons), tokens=share) for units, share in sizes)
        shape = replace(dense.shape, layers=layers, shared=share_as_before(dense.shape.shared, remaining))
        speedup = cost_model.predicted(shape)
        plans.append(
            {
                "target": target.name,
                "predicted_speedup": speedup,
                "predicted_latency_ms": cost_model.dense_ms / speedup if cost_model.unit == "time" else None,
                "flops_kept": shape.flops(context.seq_len) / dense.shape.flops(context.seq_len),
                "layers": shape.as_json(),
            }
        )
    return {"serving": context.serving.describe(), "latency_ms": cost_model.dense_ms, "plans": plans}


def _write(context: PruneContext, cost_model: CostModel, pruned: Pruned, folder: Path) -> PrunedModel:
    """Write a pruned model's checkpoint, and return its results."""
    folder.mkdir(exist_ok=True)
    save_model(pruned.model, folder, context.dense.source)
    after = model_shape(pruned.model)
    _announce(context, pruned, after)
    serving = context.serving
    return {
        "folder": folder.name,
        "target": {cost_model.unit: pruned.target.value, "seq_len": context.seq_len},
        "method": context.settings.method,
        "predicted_speedup": round(pruned.predicted, 3),
        "measured_speedup": round(pruned.measured, 3),
        "measured": {
            "runtime": serving.runtime,
            "precision": serving.precision,
            "threads": serving.threads,
            "batch_size": serving.batch_size,
            "seq_len": serving.seq_len,
            "ci95": pruned.interval,
            "latency_ms": cost_model.dense_ms / pruned.measured,
        },
        "params": count_params(pruned.model),
        "flops": after.flops(context.seq_len),
        "layers": after.as_json(),
        "refits": pruned.refits,
        "metrics": {"validation": pruned.metrics},
    }


def _missed(pruned: Pruned) -> str:
    """Return what to do about a model that is slower than its target by more than the tolerance; empty if it is not."""
    target = pruned.target.speedup
    if target is None or pruned.measured >= target * (1 - TOLERANCE):
        return ""
    return "run again on a quiet machine, or ask for more"


def _announce(context: PruneContext, pruned: Pruned, after: shapes.Shape) -> None:
    """Print a pruned model's speed, size, score and shape."""
    before = context.dense.shape
    flops, params = after.flops(context.seq_len) / before.flops(context.seq_len), after.params() / before.params()
    measured = f"{pruned.measured:.2f}x [{pruned.interval[0]:.2f}, {pruned.interval[1]:.2f}]"
    speed = f"{measured} as fast ({context.serving.describe()}), predicted {pruned.predicted:.2f}x"
    console.info(f"  {pruned.target.name}: {speed}")
    if missed := _missed(pruned):
        console.warn(f"{pruned.target.name} was not reached: measured {measured}; {missed}")
    console.info(f"  {100 * flops:.1f} % of the encoder's FLOPs, {100 * params:.1f} % of its parameters")
    if pruned.metrics:
        main = context.main_metric
        console.info(f"  validation {main} {100 * pruned.metrics[main]:.2f} (n = {pruned.metrics['n']})")
    console.info(sketch_layers(after.as_json()))
