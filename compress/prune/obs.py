"""Structured Optimal Brain Surgeon: the loss of removing units if the remaining ones compensate as well as they can.

ZipLM (Kurtic et al. 2023, arXiv 2302.04089, eq. 3 and algorithm 1) measures the loss by the squared error of the sublayer's
output. Here the error is weighted by the Fisher information of the output, in the Kronecker-factored form of LLM Surgeon (van
der Ouderaa et al. 2024, arXiv 2312.17244, eq. 6), so that losses are comparable between sublayers and layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from compress.editing.gradients import BatchT
from compress.models.layers import Layer, encoder_layers
from compress.models.model_shape import model_shape
from compress.models.sharing import all_owners
from compress.models.types import TransformersModel
from compress.prune.costs import ALIGNMENT
from compress.prune.ranking import LayerRanking, Ranking, rank_owners
from compress.prune.scores import projection_gradients

DAMPING = 0.01  # of the mean diagonal, added to the inputs' Gram matrix
FLOOR = 1e-3  # of the mean diagonal, added to the outputs' Fisher matrix: a direction without gradients is not free


@dataclass
class KroneckerFactors:
    """Kronecker factors of the Fisher information of an output projection with (d, k) weights; their product has its trace.

    With x a token's input, g the loss's gradient with respect to its output, and sums over tokens. A token without influence on
    the loss (padding, all but the first token in a classifier's last layer) has g = 0 and adds nothing.

    Attributes:
        inputs: (k, k), the sum of `|g|^2 x x'`.
        outputs: (d, d), the sum of `g g'` over the sum of `|g|^2`.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor


def kronecker_factors(
    model: TransformersModel, batches: Iterable[BatchT], loss_of: Callable[[BatchT], torch.Tensor]
) -> list[tuple[KroneckerFactors, KroneckerFactors]]:
    """Return the factors of every layer's attention and FFN output projection, gathered in one pass over the batches.

    Layers that share their weights have their factors in common: the sums are over all of them.

    Args:
        model: a model with its head, in evaluation mode.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch, summed over its examples; with labels sampled from the model, the factors are those of the
            Fisher information.
    """
    owners, layers = all_owners(model), list(encoder_layers(model))
    own = {owner: tuple(_zeros(linear) for linear in _output_projections(layers[owner])) for owner in dict.fromkeys(owners)}
    sums = [own[owner] for owner in owners]
    for captured in projection_gradients(model, batches, loss_of, of_outputs=True):
        for pair, parts in zip(sums, captured, strict=True):
            for factor, (activations, gradient) in zip(pair, parts, strict=True):
                gradients = gradient.flatten(0, 1)
                norms = gradients.norm(dim=1)
                relevant = norms > 0
                rows = activations.flatten(0, 1)[relevant] * norms[relevant].unsqueeze(1)
                gradients = gradients[relevant]
                factor.inputs += (rows.T @ rows).cpu()
                factor.outputs += (gradients.T @ gradients).cpu()
    for factor in (factor for pair in own.values() for factor in pair):
        factor.outputs /= factor.outputs.diagonal().sum().clamp_min(1e-30)
    return [(pair[0], pair[1]) for pair in sums]


def _output_projections(layer: Layer) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    return layer.attention_output, layer.ffn_out


def _zeros(linear: torch.nn.Linear) -> KroneckerFactors:
    return KroneckerFactors(torch.zeros(linear.in_features, linear.in_features), torch.zeros(linear.out_features, linear.out_features))


def rank_by_obs(model: TransformersModel, factors: list[tuple[KroneckerFactors, KroneckerFactors]]) -> list[LayerRanking]:
    """Rank the heads and neurons of every layer by greedy removal; the model is on the CPU."""
    size, layers = model_shape(model).head_size, list(encoder_layers(model))

    def rank(number: int) -> LayerRanking:
        layer, (attention, ffn) = layers[number], factors[number]
        return LayerRanking(
            remove_greedily(layer.attention_output.weight.detach(), attention, size, 1),
            remove_greedily(layer.ffn_out.weight.detach(), ffn, 1, ALIGNMENT),
        )

    return rank_owners(all_owners(model), rank)


def remove_greedily(weight: torch.Tensor, factors: KroneckerFactors, unit_size: int, at_once: int) -> Ranking:
    """Rank the units of an output projection: remove the cheapest, correct the remaining weights for it, and repeat.

    For columns S of the weights W, with H the damped factor of the inputs and G that of the outputs, the loss is
    `tr(W_S' G W_S ((H^-1)_SS)^-1) / 2`. Then `W -= W_S ((H^-1)_SS)^-1 (H^-1)_S,:`, and the same downdate removes S from `H^-1`.

    Args:
        weight: (d, units * unit_size).
        factors: of this projection.
        unit_size: columns of a unit.
        at_once: units that are removed between two computations of the losses.

    Returns:
        The ranking, with losses accumulated over the removals.
    """
    count = weight.shape[1] // unit_size
    order: list[int] = []
    losses = np.zeros(count + 1)
    if not count:
        return Ranking(np.zeros(0, dtype=np.int64), losses)
    weights, inverse = _prepared(weight, factors)
    remaining = torch.arange(count)
    loss = 0.0
    while len(remaining):
        unit_losses = _unit_losses(weights, inverse, remaining, unit_size)
        removed = torch.argsort(unit_losses, stable=True)[: min(at_once, len(remaining))]
        columns = (remaining[removed].unsqueeze(1) * unit_size + torch.arange(unit_size)).flatten()
        block = inverse[columns][:, columns]
        correction = torch.linalg.solve(block, inverse[columns])  # (H^-1)_SS^-1 (H^-1)_S,:
        removed_weights = weights[:, columns]
        loss += 0.5 * float((removed_weights * torch.linalg.solve(block, removed_weights.T).T).sum())
        weights -= removed_weights @ correction
        inverse -= inverse[:, columns] @ correction
        done = len(order)
        order += remaining[removed].tolist()
        start = losses[done]
        for step in range(1, len(removed) + 1):  # between two computations, the loss grows evenly
            losses[done + step] = start + (loss - start) * step / len(removed)
        keep = torch.ones(len(remaining), dtype=torch.bool)
        keep[removed] = False
        remaining = remaining[keep]
    return Ranking(np.array(order[::-1]), losses[::-1].copy())


def _prepared(weight: torch.Tensor, factors: KroneckerFactors) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `G^1/2' W`, so that squared norms of columns are `w' G w`, and the inverse of the damped H."""
    width = weight.shape[1]
    scale = factors.outputs.diagonal().mean().clamp_min(1e-30)
    root = torch.linalg.cholesky((factors.outputs + FLOOR * scale * torch.eye(len(weight))).double()).float()
    damping = DAMPING * factors.inputs.diagonal().mean().clamp_min(1e-30)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky((factors.inputs + damping * torch.eye(width)).double())).float()
    return root.T @ weight, inverse


def _unit_losses(weights: torch.Tensor, inverse: torch.Tensor, remaining: torch.Tensor, unit_size: int) -> torch.Tensor:
    """Return twice the loss of removing each remaining unit alone, (remaining,)."""
    rows = (remaining.unsqueeze(1) * unit_size + torch.arange(unit_size)).flatten()
    if unit_size == 1:
        return weights[:, rows].square().sum(0) / inverse[rows, rows].clamp_min(1e-20)
    blocks = weights[:, rows].reshape(len(weights), len(remaining), unit_size).permute(1, 2, 0)  # (units, unit_size, d)
    grams = blocks @ blocks.transpose(1, 2)
    inner = torch.stack([inverse[row : row + unit_size, row : row + unit_size] for row in (remaining * unit_size).tolist()])
    return torch.linalg.solve(inner, grams).diagonal(dim1=1, dim2=2).sum(1)
