"""Factorize the linears of the encoder layers: weigh errors, choose ranks, replace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from compress.core import console
from compress.editing.calibration import Calibration
from compress.factorize.allocate import WHOLE, Size, allocate, fixed_ranks, weight_budget
from compress.factorize.statistics import Statistics, activation_statistics, dense_linears, fisher_statistics
from compress.factorize.svd import WeightedSvd
from compress.models import shape as shapes
from compress.models.biases import bias_or_zeros
from compress.models.device import pick_device
from compress.models.layers import encoder_layers
from compress.models.low_rank import FactoredLinear, replace_linear
from compress.models.model_shape import model_shape
from compress.models.sharing import all_owners, kept_shared
from compress.models.types import TransformersModel
from compress.settings import FactorizeSettings


def factorize_linears(
    model: TransformersModel, before: shapes.Shape, calibration: Calibration, settings: FactorizeSettings, seq_len: int
) -> None:
    """Choose a rank for each linear and replace it by its factors, in place.

    Linears that share their weights have their statistics and their rank in common.

    Args:
        model: a model whose embeddings may be factorized already.
        before: the dense model's shape, which target shares refer to.
        calibration: texts for the statistics.
        settings: method and target.
        seq_len: tokens of a text, for FLOPs.

    Raises:
        UsageError: a target out of reach, or a rank at which no linear is smaller.
    """
    owners, found = all_owners(model), list(zip(dense_linears(model), _statistics(model, calibration, settings), strict=True))
    chosen = [(one, statistics) for one, statistics in found if owners[one[0]] == one[0]]
    linears, statistics = [one for one, _ in chosen], [statistics for _, statistics in chosen]
    sizes = [(linear.in_features, linear.out_features) for _, _, linear in linears]
    uses = [owners.count(number) for number, _, _ in linears]
    with console.progress("decomposing", len(linears)) as advance:
        decompositions = []
        for (_, _, linear), weights in zip(linears, statistics, strict=True):
            decompositions.append(WeightedSvd(linear.weight, weights))
            advance()
    ranks = _ranks(model, before, sizes, uses, decompositions, settings, seq_len)
    layers = list(encoder_layers(model))
    with kept_shared(model):
        for (number, role, linear), decomposition, rank in zip(linears, decompositions, ranks, strict=True):
            for use in (use for use, owner in enumerate(owners) if owner == number and rank != WHOLE):
                replace_linear(model, layers[use], role, _factored(linear, decomposition, rank))


def _ranks(
    model: TransformersModel,
    before: shapes.Shape,
    sizes: Sequence[Size],
    uses: Sequence[int],
    decompositions: Sequence[WeightedSvd],
    settings: FactorizeSettings,
    seq_len: int,
) -> list[int]:
    """Return the rank of each linear: the best within the target's budget, or the given one."""
    if not (settings.target_flops or settings.target_params):
        return fixed_ranks(sizes, settings.rank, settings.ratio)
    budget = weight_budget(before, model_shape(model), settings.target_flops, settings.target_params, seq_len)
    # Losses in the unit of gradients are comparable; without gradients, each is a share of the linear's own output.
    losses = [each.losses if settings.method == "fisher" else each.losses / max(each.losses[0], 1e-30) for each in decompositions]
    return allocate(sizes, losses, budget, uses if settings.target_flops else [1] * len(sizes))


def _factored(linear: nn.Linear, decomposition: WeightedSvd, rank: int) -> FactoredLinear:
    up, down, bias_change = decomposition.factors(rank)
    factored = FactoredLinear(linear.in_features, linear.out_features, rank)
    with torch.no_grad():
        factored.down.weight.copy_(down)
        factored.up.weight.copy_(up)
        factored.up.bias.copy_(bias_or_zeros(linear).detach().double().cpu() + bias_change)
    return factored.eval()


def _statistics(model: TransformersModel, calibration: Calibration, settings: FactorizeSettings) -> Sequence[Statistics | None]:
    """Return what the method weighs the errors of every linear by: None for the plain SVD."""
    if settings.method == "plain":
        return [None for _ in dense_linears(model)]
    device = pick_device(settings.device)
    model.to(device)
    batches = calibration.batches()
    with console.progress("reading activations", len(batches)) as advance:
        if settings.method == "activations":
            statistics = activation_statistics(model, [calibration.inputs(batch, model, device) for batch in batches], advance)
        else:
            statistics = fisher_statistics(model, batches, calibration.loss(model, sampled=True), advance)
    model.to("cpu")
    return statistics
