"""Adapters (Houlsby et al. 2019, arXiv 1902.00751): small bottlenecks after the two output projections of every layer.

An adapter is not linear, so it cannot be merged into the projection. It remains a part of the model: `config.json` records its
size, the checkpoint has its weights, and the ONNX graph has its two matmuls.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from compress.core.errors import UsageError
from compress.models.family import family_of
from compress.models.layers import encoder_layers, find_submodule
from compress.models.sharing import kept_shared
from compress.models.types import TransformersModel

INIT_STD = 1e-3  # of the initial weights: an adapter starts close to the identity (section 3.6 of the paper)


class Adapter(nn.Module):
    """`x + W2 gelu(W1 x + b1) + b2`, from the hidden width to a bottleneck and back (figure 2)."""

    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(hidden, size), nn.Linear(size, hidden)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
            nn.init.zeros_(linear.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return states of the same shape, (..., hidden)."""
        return states + self.up(functional.gelu(self.down(states)))


class AdaptedLinear(nn.Linear):
    """A linear followed by an adapter. It is an `nn.Linear`, so code that reads or resizes linears works on it."""

    def __init__(self, linear: nn.Linear, size: int) -> None:
        nn.Module.__init__(self)  # nn.Linear's would create new weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.adapter = Adapter(linear.out_features, size)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the projection of `input` after the adapter, (..., out)."""
        return self.adapter(super().forward(input))


def add_adapters(model: TransformersModel, size: int) -> None:
    """Add a new adapter after the output projections of attention and FFN in every layer, in place.

    Layers that share their weights share their adapters.

    Args:
        model: dense or pruned, without adapters.
        size: width of the bottleneck.
    """
    family = family_of(model.config.model_type)
    with kept_shared(model):
        for layer in encoder_layers(model):
            for path in (family.attention_output, family.ffn_out):
                parent, _, name = path.rpartition(".")
                holder = find_submodule(layer.module, parent) if parent else layer.module
                setattr(holder, name, AdaptedLinear(getattr(holder, name), size))


def adapter_of(linear: nn.Linear) -> Adapter | None:
    """Return the adapter that follows a linear, or None."""
    return linear.adapter if isinstance(linear, AdaptedLinear) else None


def adapters(model: TransformersModel) -> list[Adapter]:
    """Return a model's adapters from the first to the last: two per layer, or none."""
    following = (adapter_of(linear) for layer in encoder_layers(model) for linear in (layer.attention_output, layer.ffn_out))
    return [adapter for adapter in following if adapter is not None]


def adapter_size(model: TransformersModel) -> int:
    """Return the bottleneck width of a model's adapters; 0 without adapters."""
    return next((adapter.down.out_features for adapter in adapters(model)), 0)


def refuse_adapters(model: TransformersModel, verb: str) -> None:
    """Refuse a model with adapters.

    Raises:
        UsageError: it has adapters.
    """
    if adapter_size(model):
        raise UsageError(
            f"{verb} does not support models with adapters",
            f"{verb} the model first, then add adapters to the result: compress finetune MODEL --mode adapter --task T -o DIR",
        )
