"""Slice a model down to the kept heads and neurons with torch-pruning's linear pruners; or mask it, as the slice's reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from compress.models.layers import Layer, encoder_layers
from compress.models.model_shape import model_shape, record_shape
from compress.models.resize import keep_heads
from compress.models.sharing import kept_shared
from compress.models.types import TransformersModel
from compress.prune.search import Kept


def columns(heads: Sequence[int], head_size: int) -> list[int]:
    """Return the positions of the heads' dimensions within query, key, value and the output's input."""
    return [head * head_size + dimension for head in heads for dimension in range(head_size)]


def slice_model(model: TransformersModel, kept: Sequence[Kept]) -> None:
    """Remove all heads and neurons except the kept ones, in place.

    Query, key, value and what leads into the FFN lose rows, the output projections lose columns; a sublayer without units keeps
    its bias and LayerNorm. The result computes the same as the masked model, up to rounding.

    Args:
        model: dense or pruned.
        kept: the units to keep, one entry a layer; the same for layers that share their weights.
    """
    size = model_shape(model).head_size
    with kept_shared(model):
        for layer, units in zip(encoder_layers(model), kept, strict=True):
            _slice_layer(model, layer, units, size)
    record_shape(model, model_shape(model))


def _slice_layer(model: TransformersModel, layer: Layer, units: Kept, size: int) -> None:
    import torch_pruning

    removed = [head for head in range(layer.attention_output.in_features // size) if head not in set(units.heads)]
    if removed:
        dimensions = columns(removed, size)
        for linear in (layer.query, layer.key, layer.value, *layer.position_projections):
            torch_pruning.prune_linear_out_channels(linear, dimensions)
        torch_pruning.prune_linear_in_channels(layer.attention_output, dimensions)
        keep_heads(model, layer, units.heads, size)
    neurons = sorted(set(range(layer.ffn_in.out_features)) - set(units.neurons))
    if neurons:
        for linear in (layer.ffn_in, layer.ffn_gate):
            if linear is not None:
                torch_pruning.prune_linear_out_channels(linear, neurons)
        torch_pruning.prune_linear_in_channels(layer.ffn_out, neurons)


def mask_model(model: TransformersModel, kept: Sequence[Kept]) -> None:
    """Zero the output columns of all heads and neurons except the kept ones, in place: the same function at full size."""
    size = model_shape(model).head_size
    with torch.no_grad():
        for layer, units in zip(encoder_layers(model), kept, strict=True):
            for linear, inputs in ((layer.attention_output, columns(units.heads, size)), (layer.ffn_out, units.neurons)):
                mask = torch.zeros(linear.in_features)
                mask[list(inputs)] = 1
                linear.weight.mul_(mask)
