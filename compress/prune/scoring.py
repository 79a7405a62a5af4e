"""Rank the heads and neurons of a model as it stands, by the method of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from compress.core import console
from compress.models.family import family_of
from compress.models.inputs import MAX_TOKENS
from compress.models.model_shape import model_shape
from compress.models.sharing import all_owners
from compress.models.types import TransformersModel
from compress.prune import obs
from compress.prune.baselines import torch_pruning_scores
from compress.prune.context import PruneContext
from compress.prune.ranking import LayerRanking, rank_by_fisher_block, rank_by_scores, rank_owners
from compress.prune.scores import gate_gradients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


DENSE_SHARE = 0.25  # of the data scores the dense model; a smaller model, which is cheaper, is scored on more


def rank_units(context: PruneContext, model: TransformersModel) -> list[LayerRanking]:
    """Rank the units of a model, which is left on the CPU for methods that compute there.

    Args:
        context: of the run, with the method and the calibration texts.
        model: dense or pruned.
    """
    ranked = _ranked(context, model)
    if context.settings.uniform and family_of(model.config.model_type).keeps_first_layer:
        ranked[0].heads.loss[0] = np.inf  # layers without units are removed as a whole, and this one must stay
    return ranked


def _ranked(context: PruneContext, model: TransformersModel) -> list[LayerRanking]:
    method, owners = context.settings.method, all_owners(model)
    model.to(context.device)
    batches = scored_batches(context, model)
    with console.progress("scoring units", len(batches)) as advance:
        counted = counting(batches, advance)
        if method == "obs":
            factors = obs.kronecker_factors(model, counted, context.loss(model))
            return obs.rank_by_obs(model.to("cpu"), factors)
        if method == "fisher":
            gradients = gate_gradients(model, counted, context.loss(model))
            return rank_owners(
                owners,
                lambda number: LayerRanking(rank_by_fisher_block(gradients[number].heads), rank_by_fisher_block(gradients[number].neurons)),
            )
        if method == "magnitude" or method == "random":
            return rank_by_scores(torch_pruning_scores(model.to("cpu"), method, seed=context.dense.seed), owners)
        mean_loss = context.loss(model, summed=False)
        return rank_by_scores(torch_pruning_scores(model.to("cpu"), "taylor", counted, mean_loss), owners)


def scored_batches(context: PruneContext, model: TransformersModel) -> list[np.ndarray]:
    """Return the positions of the calibration texts that a model's units are scored on."""
    flops_kept = model_shape(model).flops(context.seq_len) / context.dense.shape.flops(context.seq_len)
    share = min(1.0, DENSE_SHARE / max(flops_kept, 1e-6))
    if context.dense.target == "vector" or context.calibration.exceeds(MAX_TOKENS):  # more texts than scores need
        share *= context.calibration.share_of(MAX_TOKENS)
    return context.calibration.batches(share)


def counting(batches: Sequence[np.ndarray], advance: Callable[[], None]) -> Iterator[np.ndarray]:
    """Yield the batches, and report each as done when the next one is requested."""
    for positions in batches:
        yield positions
        advance()
