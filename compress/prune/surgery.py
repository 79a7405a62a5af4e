"""Cut a model down to the kept heads and neurons, by torch-pruning's linear pruners; or mask it, to prove the cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape, record_shape
from compress.models.resize import keep_heads
from compress.prune.search import Kept


def columns(heads: Sequence[int], head_size: int) -> list[int]:
    """Return the positions of the heads' dimensions within query, key, value and the output's input."""
    return [head * head_size + dimension for head in heads for dimension in range(head_size)]


def slice_model(model: Any, kept: Sequence[Kept]) -> None:
    """Remove every head and neuron that is not kept, in place.

    Query, key and value lose rows, the output projections lose columns; a sublayer without units keeps its bias and
    LayerNorm. The result equals the masked model exactly (up to rounding).
    """
    import torch_pruning

    size = model_shape(model).head_size
    for layer, wanted in zip(encoder_layers(model), kept, strict=True):
        gone = [head for head in range(layer.attention_output.in_features // size) if head not in set(wanted.heads)]
        if gone:
            dimensions = columns(gone, size)
            for linear in (layer.query, layer.key, layer.value):
                torch_pruning.prune_linear_out_channels(linear, dimensions)
            torch_pruning.prune_linear_in_channels(layer.attention_output, dimensions)
            keep_heads(model, layer, wanted.heads, size)
        neurons = sorted(set(range(layer.ffn_in.out_features)) - set(wanted.neurons))
        if neurons:
            torch_pruning.prune_linear_out_channels(layer.ffn_in, neurons)
            torch_pruning.prune_linear_in_channels(layer.ffn_out, neurons)
    record_shape(model, model_shape(model))


def mask_model(model: Any, kept: Sequence[Kept]) -> None:
    """Zero the output columns of every head and neuron that is not kept, in place: the same function, not smaller."""
    size = model_shape(model).head_size
    with torch.no_grad():
        for layer, wanted in zip(encoder_layers(model), kept, strict=True):
            for linear, units in ((layer.attention_output, columns(wanted.heads, size)), (layer.ffn_out, wanted.neurons)):
                mask = torch.zeros(linear.in_features)
                mask[list(units)] = 1
                linear.weight.mul_(mask)
