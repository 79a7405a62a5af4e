"""Pruning: the stage `prune`. Scores, table, search and surgery are pure functions beside it."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.core import console
from compress.core.errors import UsageError
from compress.editing.vocabulary import prune_vocab
from compress.models import shape as shapes
from compress.models.checkpoint import save_model
from compress.models.model_shape import count_params, model_shape
from compress.models.sketch import sketch_layers
from compress.prune import coarse
from compress.prune.sparse import SIZE_ONLY, sparsify, zipped_bytes
from compress.prune.structured import COARSE, STRUCTURED, Pruned, Pruner
from compress.prune.targets import goals_of
from compress.prune.uniform import GONE
from compress.results import PruneDocument, PrunePlan
from compress.settings import PruneSettings
from compress.stage import Inputs


def run(inputs: Inputs, settings: PruneSettings, output: Path) -> PruneDocument:
    """Prune to the target and write the small checkpoint; with several targets one in a folder each.

    Raises:
        UsageError: a target that cannot be reached.
    """
    if settings.method in ("vocab", "sparse"):
        return _smaller_file(inputs, settings, output)
    pruner = Pruner(inputs, settings)
    whole = settings.method in COARSE
    if settings.max_drop is not None:
        found = coarse.fastest_within(pruner, settings.max_drop) if whole else pruner.fastest_within(settings.max_drop)
        results = [_write(pruner, found, output)]
    else:
        goals = goals_of(pruner)
        folders = [output] if len(goals) == 1 else [output / goal.name for goal in goals]
        made = coarse.reach(pruner, goals) if whole else pruner.reach(goals)
        results = [_write(pruner, found, folder) for found, folder in zip(made, folders, strict=True)]
    last = results[-1]
    document = last if len(results) == 1 else {**last, "models": results}
    return document | {"curve": pruner.curve, "layers_before": pruner.before.as_json(), "flops_before": pruner.before.flops(pruner.seq_len)}


def _smaller_file(inputs: Inputs, settings: PruneSettings, output: Path) -> dict[str, Any]:
    """Drop unused words, or single weights: what makes a model smaller on disk and no faster."""
    pruner = Pruner(inputs, settings)
    model, before = copy.deepcopy(pruner.dense), count_params(pruner.dense)
    tokenizer, found = inputs.source, {}
    with tempfile.TemporaryDirectory() as scratch:
        if settings.method == "vocab":
            splits = [pruner.task.split(name).texts for name in pruner.task.available]
            texts = [text for part in (*splits, pruner.unlabeled.texts if pruner.unlabeled else []) for text in part]
            found = prune_vocab(model, inputs.source, texts, Path(scratch), words=pruner.task.spec.target == "tags")
            tokenizer = Path(scratch)
            console.info(f"  {found['vocab_after']:,} of {found['vocab_before']:,} tokens are used by the task's {len(texts):,} texts")
        else:
            console.warn(SIZE_ONLY)
            zipped = zipped_bytes(model)
            with console.progress("removing weights", len(pruner.before.layers)) as advance:
                zeros = sparsify(model.to(pruner.device), pruner.refitter.fitted_batches, settings.pattern, settings.sparsity, advance)
            model.to("cpu")
            found = {"zeros": zeros, "zipped_bytes_before": zipped, "zipped_bytes_after": zipped_bytes(model)}
            console.info(f"  the encoder's weights, zipped: {found['zipped_bytes_after'] / zipped:.0%} of what they were")
        save_model(model, output, tokenizer)
        metrics = pruner.validate(model, tokenizer=output)
    return {
        "target": {},
        "method": settings.method,
        **found,
        "predicted_speedup": 1.0,
        "measured_speedup": None,
        "params": count_params(model),
        "params_before": before,
        "flops": pruner.before.flops(pruner.seq_len),
        "layers": pruner.before.as_json(),
        "metrics": {"validation": metrics},
    }


def plan(inputs: Inputs, settings: PruneSettings) -> PrunePlan:
    """Return what one pass of scores would cut for each target, and the latency that the costs predict.

    Raises:
        UsageError: a target that cannot be reached, or a method or target without a plan.
    """
    if settings.method not in STRUCTURED or settings.max_drop is not None:
        raise UsageError("there is no plan for this method or target", "only heads and neurons, cut to a given size or speed, have one")
    pruner = Pruner(inputs, settings)
    goals, plans = goals_of(pruner), []
    ranked = pruner.rank(copy.deepcopy(pruner.dense))
    for goal in goals:
        kept = pruner.choose(ranked, goal.budget)
        left = [layer for layer in kept if layer != GONE] if settings.uniform else kept
        layers = tuple(shapes.LayerShape(len(layer.heads), len(layer.neurons)) for layer in left)
        shape = replace(pruner.before, layers=layers)
        plans.append(
            {
                "goal": goal.name,
                "predicted_speedup": pruner.predicted(shape),
                "predicted_latency_ms": pruner.dense_ms / pruner.predicted(shape) if pruner.kind == "time" else None,
                "flops_kept": shape.flops(pruner.seq_len) / pruner.before.flops(pruner.seq_len),
                "layers": shape.as_json(),
            }
        )
    return {"serving": pruner.serving.describe(), "latency_ms": pruner.dense_ms, "plans": plans}


def _write(pruner: Pruner, found: Pruned, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    before, after = pruner.before, model_shape(found.model)
    save_model(found.model, folder, pruner.source)
    flops, params = after.flops(pruner.seq_len) / before.flops(pruner.seq_len), after.params() / before.params()
    console.info(f"  {found.goal.name}: {found.measured:.2f}x as fast ({pruner.serving.describe()}), predicted {found.predicted:.2f}x")
    console.info(f"  {100 * flops:.1f} % of the encoder's FLOPs, {100 * params:.1f} % of its parameters")
    if found.metrics:
        main = pruner.task.spec.main_metric
        console.info(f"  validation {main} {100 * found.metrics[main]:.2f} (n = {found.metrics['n']})")
    console.info(sketch_layers(after.as_json()))
    serving = pruner.serving
    return {
        "folder": folder.name,
        "target": {pruner.kind: found.goal.speedup or found.goal.budget / pruner.costs.total(before), "seq_len": pruner.seq_len},
        "method": pruner.settings.method,
        "predicted_speedup": round(found.predicted, 3),
        "measured_speedup": round(found.measured, 3),
        "measured": {
            "runtime": serving.runtime,
            "precision": serving.precision,
            "threads": serving.threads,
            "batch_size": serving.batch_size,
            "seq_len": serving.seq_len,
            "ci95": found.interval,
            "latency_ms": pruner.dense_ms / found.measured,
        },
        "params": count_params(found.model),
        "flops": after.flops(pruner.seq_len),
        "layers": after.as_json(),
        "refits": found.refits,
        "metrics": {"validation": found.metrics},
    }
