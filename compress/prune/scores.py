"""Gradients and scores of units: how much each attention head and each FFN neuron matters.

A unit is a group of inputs of an output projection: `head_size` columns of the attention output for a head, one column of the FFN
output for a neuron. Scores are comparable across layers, and between heads and neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from compress.editing.gradients import BatchT, activation_gradients
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.sharing import owners_of
from compress.models.types import TransformersModel

Captured = list[list[tuple[torch.Tensor, torch.Tensor]]]  # by layer and sublayer: a projection's input, and a gradient


@dataclass(frozen=True)
class LayerScores:
    """The scores of a layer's units, higher is more important: `heads` (heads,), `neurons` (ffn,), both float64."""

    heads: torch.Tensor
    neurons: torch.Tensor


@dataclass(frozen=True)
class GateGradients:
    """Each example's gradient of the loss for a gate on each unit of a layer: `heads` (examples, heads), `neurons` (examples, ffn)."""

    heads: torch.Tensor
    neurons: torch.Tensor


def gate_gradients(model: TransformersModel, batches: Iterable[BatchT], loss_of: Callable[[BatchT], torch.Tensor]) -> list[GateGradients]:
    """Return each example's gradient of the loss with respect to a gate of 1 on every unit.

    With `a` the unit's activations (the input of the output projection), the gradient is `sum_tokens a . dL/da`: to first order,
    the change of the example's loss when the unit fades.

    Args:
        model: a model with its head, in evaluation mode; its weights get no gradients.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch, **summed** over its examples, so that each example's gradient is its own.

    Returns:
        One `GateGradients` a layer, float32 on the CPU, the examples in the order of the batches. Layers that share their weights share
        their gates: each has the sum of their gradients.
    """
    size = model_shape(model).head_size
    rows: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = [([], []) for _ in encoder_layers(model)]
    for gradients in projection_gradients(model, batches, loss_of):
        for number, sublayers in enumerate(gradients):
            for sublayer, (activations, gradient) in enumerate(sublayers):
                product = (activations * gradient).double().sum(1)  # (batch, tokens, units) -> (batch, units)
                if sublayer == 0:
                    product = product.reshape(len(product), -1, size).sum(2)
                rows[number][sublayer].append(product.float().cpu())
    layers = [GateGradients(torch.cat(heads), torch.cat(neurons)) for heads, neurons in rows]
    return _summed(layers, owners_of(model)) if owners_of(model) else layers


def _summed(layers: Sequence[GateGradients], owners: Sequence[int]) -> list[GateGradients]:
    """Return for each layer the sum over those that have the same owner."""
    uses = {owner: [layer for layer, other in zip(layers, owners, strict=True) if other == owner] for owner in set(owners)}
    sums = {
        owner: GateGradients(torch.stack([use.heads for use in group]).sum(0), torch.stack([use.neurons for use in group]).sum(0))
        for owner, group in uses.items()
    }
    return [sums[owner] for owner in owners]


def projection_gradients(
    model: TransformersModel, batches: Iterable[BatchT], loss_of: Callable[[BatchT], torch.Tensor], of_outputs: bool = False
) -> Iterator[Captured]:
    """Run forward and backward; yield the input of each output projection with the loss's gradient, batch by batch.

    The gradients are with respect to the projections' inputs, or with `of_outputs` to their outputs.
    """
    projections = [linear for layer in encoder_layers(model) for linear in (layer.attention_output, layer.ffn_out)]
    for pairs in activation_gradients(model, projections, batches, loss_of, of_outputs):
        yield [pairs[start : start + 2] for start in range(0, len(pairs), 2)]
