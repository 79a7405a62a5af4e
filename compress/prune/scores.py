"""How much each attention head and each FFN neuron matters.

A unit is a group of inputs of an output projection: `head_size` columns of the attention output for a head, one
column of the FFN output for a neuron. Scores are comparable across layers and between heads and neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from compress.editing.gradients import activation_gradients
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape


@dataclass(frozen=True)
class LayerScores:
    """The scores of a layer's units, higher matters more: `heads` (heads,), `neurons` (ffn,), both float64."""

    heads: torch.Tensor
    neurons: torch.Tensor


@dataclass(frozen=True)
class GateGradients:
    """Each example's gradient of the loss by a gate on each unit of a layer: `heads` (examples, heads), `neurons` (examples, ffn)."""

    heads: torch.Tensor
    neurons: torch.Tensor


def gate_gradients(model: Any, batches: Iterable[Any], loss_of: Callable[[Any], torch.Tensor]) -> list[GateGradients]:
    """Return each example's own gradient of the loss by a gate of 1 on every unit.

    With `a` the unit's activations, the input of the output projection, the gradient is `sum_tokens a . dL/da`: by it,
    to first order, the example's loss changes when the unit fades.

    Args:
        model: a model with its head in evaluation mode; its weights get no gradients.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch, **summed** over its examples, so that each example's gradient is its own.

    Returns:
        One `GateGradients` a layer, float32 on the CPU, the examples in the order of the batches.
    """
    size = model_shape(model).head_size
    found = list(encoder_layers(model))
    rows: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = [([], []) for _ in found]
    for gradients in backward(model, batches, loss_of):
        for number, parts in enumerate(gradients):
            for part, (activations, gradient) in enumerate(parts):
                product = (activations * gradient).double().sum(1)  # (batch, tokens, units) -> (batch, units)
                if part == 0:
                    product = product.reshape(len(product), -1, size).sum(2)
                rows[number][part].append(product.float().cpu())
    return [GateGradients(torch.cat(heads), torch.cat(neurons)) for heads, neurons in rows]


Captured = list[list[tuple[torch.Tensor, torch.Tensor]]]  # by layer and part: an output projection's input, and a gradient


def backward(model: Any, batches: Iterable[Any], loss_of: Callable[[Any], torch.Tensor], outputs: bool = False) -> Iterator[Captured]:
    """Run forward and backward; yield, batch by batch, what enters each output projection, with the loss's gradient by it.

    With `outputs` the gradients are those by what leaves the projections.
    """
    found = [linear for layer in encoder_layers(model) for linear in (layer.attention_output, layer.ffn_out)]
    for pairs in activation_gradients(model, found, batches, loss_of, outputs):
        yield [pairs[start : start + 2] for start in range(0, len(pairs), 2)]
