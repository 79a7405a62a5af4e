"""Give a model's layers other numbers of heads and FFN neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from compress.models.family import Family, family_of
from compress.models.interleaved import BIASES
from compress.models.layers import Layer, encoder_layers, find_submodule
from compress.models.model_shape import record_shape
from compress.models.relative_positions import select_bias_columns
from compress.models.shape import Shape
from compress.models.types import TransformersModel


class NoHeads(nn.Module):
    """Replaces the self-attention of a layer without heads: returns (batch, length, 0) for the output projection.

    The projection of an empty input is its bias, so the sublayer still adds its bias and applies its LayerNorm.
    """

    def forward(self, hidden_states: torch.Tensor, *args: object, **options: object) -> tuple[torch.Tensor, None]:
        """Return the empty context and no attention weights."""
        return hidden_states[..., :0], None


class NoHeadsWithOutput(NoHeads):
    """The same for DistilBERT, MPNet and ModernBERT, whose attention module contains the output projection, under a name of its own."""

    def __init__(self, name: str, output: nn.Linear) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, output)

    def forward(self, hidden_states: torch.Tensor, *args: object, **options: object) -> tuple[torch.Tensor, None]:
        """Return the projection's bias, (batch, length, hidden), and no attention weights."""
        return getattr(self, self.name)(hidden_states[..., :0]), None


class NoHeadsWithNorm(NoHeads):
    """The same for ALBERT, whose attention module contains the output projection, the residual and the norm.

    Args:
        parts: the two modules by their names, the projection first.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, hidden_states: torch.Tensor, *args: object, **options: object) -> tuple[torch.Tensor, None]:
        """Return the normalised sum, (batch, length, hidden), and no attention weights."""
        output, norm = self.children()
        return norm(hidden_states + output(hidden_states[..., :0])), None


def resize(model: TransformersModel, shape: Shape) -> None:
    """Give every layer new, uninitialised linears of the sizes in `shape`, in place, ready for `load_state_dict`."""
    hidden = shape.hidden
    for layer, target in zip(encoder_layers(model), shape.layers, strict=True):
        width = target.heads * shape.head_size
        if layer.query is not None and layer.key is not None and layer.value is not None:
            for linear in (layer.query, layer.key, layer.value, *layer.position_projections):
                resize_linear(linear, hidden, width)
        resize_linear(layer.attention_output, width, hidden)
        resize_linear(layer.ffn_in, hidden, target.ffn)
        if layer.ffn_gate is not None:
            resize_linear(layer.ffn_gate, hidden, target.ffn)
        resize_linear(layer.ffn_out, target.ffn, hidden)
        keep_heads(model, layer, range(target.heads), shape.head_size)
    record_shape(model, shape)


def resize_linear(linear: nn.Linear, in_features: int, out_features: int) -> None:
    """Give a linear new, uninitialised weights of another size, in place."""
    linear.in_features, linear.out_features = in_features, out_features
    linear.weight = nn.Parameter(torch.empty(out_features, in_features))
    if linear.bias is not None:
        linear.bias = nn.Parameter(torch.empty(out_features))


def resize_norm(norm: nn.LayerNorm, width: int) -> None:
    """Give a LayerNorm new, uninitialised weights of another width, in place."""
    norm.normalized_shape = (width,)
    norm.weight = nn.Parameter(torch.empty(width))
    if norm.bias is not None:
        norm.bias = nn.Parameter(torch.empty(width))


def keep_heads(model: TransformersModel, layer: Layer, heads: Sequence[int], head_size: int) -> None:
    """Update a layer's attention module, in place, after its linears were cut to some of its heads.

    Args:
        model: of the layer.
        layer: its linears already have the new sizes.
        heads: positions of the heads that are kept, among those that the layer had; none replaces the attention.
        head_size: dimensions of a head.
    """
    family = family_of(model.config.model_type)
    attention = find_submodule(layer.module, family.attention)
    if not heads:
        parent, _, name = family.attention.rpartition(".")
        setattr(find_submodule(layer.module, parent) if parent else layer.module, name, _without_heads(family, layer))
        return
    select_bias_columns(model, attention, heads)
    count = len(heads)
    sizes = {"num_attention_heads": count, "n_heads": count, "all_head_size": count * head_size}
    # a narrowed model's config implies other values
    sizes |= {"attention_head_size": head_size, "head_dim": head_size, "scaling": head_size**-0.5}
    for module in (attention, *attention.children()):
        for attribute, value in sizes.items():
            if hasattr(module, attribute):
                setattr(module, attribute, value)
    for name in set(BIASES.values()) & {name for name, _ in attention.named_buffers(recurse=False)}:
        setattr(attention, name, getattr(attention, name).new_zeros(count))


def _without_heads(family: Family, layer: Layer) -> NoHeads:
    """Return what replaces a layer's attention module; parts that are inside of it stay inside."""
    inside = f"{family.attention}."
    output = family.attention_output.rpartition(".")[2]
    if family.attention_norm.startswith(inside):
        return NoHeadsWithNorm({output: layer.attention_output, family.attention_norm.rpartition(".")[2]: layer.attention_norm})
    return NoHeadsWithOutput(output, layer.attention_output) if family.attention_output.startswith(inside) else NoHeads()
