"""Whole layers, or width: models in few sizes, of which the mildest that reaches a target is taken."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from compress.core import console
from compress.core.errors import UsageError
from compress.data.metrics import points_lost
from compress.editing.encoder_layers import keep_layers
from compress.editing.layer_norms import match_layer_norms
from compress.editing.width import fitting_width, hidden_scores, narrow, top_positions
from compress.models.family import family_of
from compress.models.model_shape import model_shape
from compress.prune.depth import drop_order
from compress.prune.structured import Goal, Pruned, Pruner


def reach(pruner: Pruner, goals: Sequence[Goal]) -> Iterator[Pruned]:
    """Yield, for each goal, the mildest cut that reaches it.

    Raises:
        UsageError: none does.
    """
    waiting = list(goals)
    for model in sizes(pruner):
        while waiting and reaches(pruner, model, waiting[0]):
            goal = waiting.pop(0)
            yield pruner.finish(goal, pruner.recover(model))
        if not waiting:
            return
    raise UsageError(
        f"method {pruner.settings.method} does not reach {waiting[0].name}, whatever it leaves", "choose a milder target, or method obs"
    )


def fastest_within(pruner: Pruner, drop: float) -> Pruned:
    """Return the smallest model that loses at most `drop` points on validation.

    Raises:
        UsageError: already the mildest cut loses more.
    """
    full, found = pruner.dense_score(), None
    for model in sizes(pruner):
        cut = pruner.recover(model)
        if points_lost(full, pruner.validate(cut)[pruner.task.spec.main_metric]) > drop:
            break
        found = cut
    if found is None:
        raise UsageError(f"no smaller model keeps within {drop:g} points of {full:.4f} on validation", "allow more with --max-drop")
    return pruner.finish(Goal(f"drop {drop:g}", pruner.costs.total(model_shape(found))), found)


def reaches(pruner: Pruner, model: Any, goal: Goal) -> bool:
    """Tell whether a model is as fast, or as small, as a goal wants."""
    if goal.speedup is not None:
        return pruner.speedup(model)[0] >= goal.speedup
    # Not by the costs: those are of heads and neurons, and know no other width.
    share = pruner.settings.target_params or pruner.settings.target_flops
    assert share is not None  # noqa: S101 (the settings allow no other target here)
    return pruner.size(model_shape(model)) <= share * pruner.size(pruner.before)


def sizes(pruner: Pruner) -> Iterator[Any]:
    """Yield ever smaller copies of the dense model, by the method of the settings."""
    return _shallower(pruner) if pruner.settings.method == "layers" else _narrower(pruner)


def _shallower(pruner: Pruner) -> Iterator[Any]:
    """Drop one layer after the other, each time the one that the calibration loss misses least."""
    dense = pruner.dense
    batches = pruner.refitter.batches()
    count = len(pruner.before.layers)
    if count < 2:
        return
    dense.to(pruner.device)
    with console.progress("dropping layers", count - 1) as advance:
        order = drop_order(dense, batches, _labels_fixed(pruner), advance=advance)
    dense.to("cpu")
    kept = list(range(count))
    for gone, _ in order:
        kept.remove(gone)
        model = copy.deepcopy(dense)
        keep_layers(model, kept)
        model.origins = list(kept)
        console.info(f"  layers kept: {' '.join(str(number + 1) for number in kept)}")
        yield model


def _labels_fixed(pruner: Pruner) -> Any:
    """Return the calibration loss by the data's labels, or by the dense model's answers where there are none."""
    if pruner.unlabeled is None:
        return pruner.loss(pruner.dense)
    raise UsageError("method layers judges by labels, and --unlabeled has none", "leave --unlabeled out")


def _narrower(pruner: Pruner) -> Iterator[Any]:
    """Narrow the hidden states, a multiple of sixteen and of the heads at a time."""
    dense, before = pruner.dense.to(pruner.device), pruner.before
    batches = pruner.refitter.batches()
    with console.progress("scoring the hidden width", len(batches)) as advance:

        def counted() -> Iterator[np.ndarray]:
            for positions in batches:
                yield positions
                advance()

        scores = hidden_scores(dense, counted(), pruner.loss(dense))
    dense.to("cpu")
    heads = getattr(dense.config, family_of(dense.config.model_type).heads_key)
    unit = fitting_width(before.hidden, heads, 1e-9)
    samples = pruner.refitter.fitted_batches
    for width in range(before.hidden - unit, 0, -unit):
        kept = top_positions(scores, width)
        model = copy.deepcopy(dense)
        narrow(model, kept)
        plain = copy.deepcopy(model)
        match_layer_norms(dense.to(pruner.device), model.to(pruner.device), kept, samples)
        dense.to("cpu")
        model.to("cpu")
        main = pruner.task.spec.main_metric
        if "validation" in pruner.task.available and pruner.validate(plain)[main] > pruner.validate(model)[main]:
            model = plain  # matching every LayerNorm helps on most models, not on all
        console.info(f"  hidden width {width}")
        yield model
