"""Structured Optimal Brain Surgeon: what a sublayer loses when units go and the rest make up for them as well as they can.

ZipLM (Kurtic et al. 2023, arXiv 2302.04089, eq. 3 and algorithm 1) measures the loss by the squared error of the
sublayer's output. Here the error is weighed by the Fisher information of the output, the Kronecker-factored form of LLM
Surgeon (van der Ouderaa et al. 2024, arXiv 2312.17244, eq. 6), so that losses compare across sublayers and layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compress.models.layers import Layer, encoder_layers
from compress.models.model_shape import model_shape
from compress.prune.scores import backward
from compress.prune.search import ALIGNMENT, LayerRanking, Ranking

DAMPING = 0.01  # of the mean diagonal, added to the inputs' Gram matrix
FLOOR = 1e-3  # of the mean diagonal, added to the outputs' Fisher matrix: directions never seen are not free


@dataclass
class Factors:
    """Kronecker factors of an output projection's Fisher information (d x k weights): its trace is that of their product.

    `inputs` (k, k) is the sum over tokens of `|g|^2 x x'` and `outputs` (d, d) that of `g g' / sum |g|^2`, with x a token's
    input and g the loss's gradient by its output. A token that the loss does not depend on (padding, all but the first
    token of a classifier's last layer) counts for nothing.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor


def factors(model: Any, batches: Iterable[Any], loss_of: Callable[[Any], torch.Tensor]) -> list[tuple[Factors, Factors]]:
    """Gather the factors of every layer's attention and FFN output projection, in one stream.

    Args:
        model: a model with its head in evaluation mode.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch, summed over its examples; with sampled labels the factors are those of the Fisher
            information.
    """
    found = list(encoder_layers(model))
    sums = [tuple(_empty(linear) for linear in _projections(layer)) for layer in found]
    for captured in backward(model, batches, loss_of, outputs=True):
        for pair, parts in zip(sums, captured, strict=True):
            for factor, (activations, gradient) in zip(pair, parts, strict=True):
                slopes = gradient.flatten(0, 1)
                weights = slopes.norm(dim=1)
                counted = weights > 0
                rows = activations.flatten(0, 1)[counted] * weights[counted].unsqueeze(1)
                slopes = slopes[counted]
                factor.inputs += (rows.T @ rows).cpu()
                factor.outputs += (slopes.T @ slopes).cpu()
    for factor in (factor for pair in sums for factor in pair):
        factor.outputs /= factor.outputs.diagonal().sum().clamp_min(1e-30)
    return [(pair[0], pair[1]) for pair in sums]


def _projections(layer: Layer) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    return layer.attention_output, layer.ffn_out


def _empty(linear: torch.nn.Linear) -> Factors:
    return Factors(torch.zeros(linear.in_features, linear.in_features), torch.zeros(linear.out_features, linear.out_features))


def rankings(model: Any, gathered: list[tuple[Factors, Factors]]) -> list[LayerRanking]:
    """Rank the heads and neurons of every layer by removing, again and again, what loses least."""
    size = model_shape(model).head_size
    return [
        LayerRanking(
            remove_in_turn(layer.attention_output.weight.detach(), attention, size, 1),
            remove_in_turn(layer.ffn_out.weight.detach(), ffn, 1, ALIGNMENT),
        )
        for layer, (attention, ffn) in zip(encoder_layers(model), gathered, strict=True)
    ]


def remove_in_turn(weight: torch.Tensor, factor: Factors, unit: int, at_once: int) -> Ranking:
    """Remove units from an output projection, those that lose least first, and correct what is left after each removal.

    For columns S of the weights W, with H the damped inputs' factor and G the outputs', the loss is
    `tr(W_S' G W_S ((H^-1)_SS)^-1) / 2`; then `W -= W_S ((H^-1)_SS)^-1 (H^-1)_S,:` and `H^-1` loses S by the same downdate.

    Args:
        weight: (d, units * unit).
        factor: of this projection.
        unit: columns of a unit.
        at_once: units that are removed before the losses are computed anew.

    Returns:
        The ranking, its losses cumulated over removals.
    """
    width = weight.shape[1]
    count = width // unit
    order: list[int] = []
    losses = np.zeros(count + 1)
    if not count:
        return Ranking(np.zeros(0, dtype=np.int64), losses)
    scale = factor.outputs.diagonal().mean().clamp_min(1e-30)
    root = torch.linalg.cholesky((factor.outputs + FLOOR * scale * torch.eye(len(weight))).double()).float()
    weights = root.T @ weight  # |root' w|^2 = w' G w
    damping = DAMPING * factor.inputs.diagonal().mean().clamp_min(1e-30)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky((factor.inputs + damping * torch.eye(width)).double())).float()
    left = torch.arange(count)
    lost = 0.0
    while len(left):
        rows = (left.unsqueeze(1) * unit + torch.arange(unit)).flatten()
        if unit == 1:
            alone = weights[:, rows].square().sum(0) / inverse[rows, rows].clamp_min(1e-20)
        else:
            blocks = weights[:, rows].reshape(len(weights), len(left), unit).permute(1, 2, 0)  # (units, unit, d)
            grams = blocks @ blocks.transpose(1, 2)
            inner = torch.stack([inverse[row : row + unit, row : row + unit] for row in (left * unit).tolist()])
            alone = torch.linalg.solve(inner, grams).diagonal(dim1=1, dim2=2).sum(1)
        gone = torch.argsort(alone, stable=True)[: min(at_once, len(left))]
        columns = (left[gone].unsqueeze(1) * unit + torch.arange(unit)).flatten()
        block = inverse[columns][:, columns]
        correction = torch.linalg.solve(block, inverse[columns])  # (H^-1)_SS^-1 (H^-1)_S,:
        removed = weights[:, columns]
        lost += 0.5 * float((removed * torch.linalg.solve(block, removed.T).T).sum())
        weights -= removed @ correction
        inverse -= inverse[:, columns] @ correction
        before = len(order)
        order += left[gone].tolist()
        start = losses[before]
        for step in range(1, len(gone) + 1):  # between recomputations, the loss grows evenly
            losses[before + step] = start + (lost - start) * step / len(gone)
        keep = torch.ones(len(left), dtype=torch.bool)
        keep[gone] = False
        left = left[keep]
    return Ranking(np.array(order[::-1]), losses[::-1].copy())
