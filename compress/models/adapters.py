"""Adapters (Houlsby et al. 2019, arXiv 1902.00751): small bottlenecks behind the two output projections of every layer.

An adapter is not linear, so it cannot be merged into the projection. It stays a part of the model: `config.json` records its
size, the checkpoint holds its weights, the ONNX graph its two products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from compress.core.errors import UsageError
from compress.models.family import descend, family_of, layers

SIGMA = 1e-3  # of the initial weights: the model starts as it was, nearly (section 3.6 of the paper)


class Adapter(nn.Module):
    """`x + W2 gelu(W1 x + b1) + b2`, from the hidden width through a bottleneck and back (figure 2)."""

    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(hidden, size), nn.Linear(size, hidden)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=SIGMA, a=-2 * SIGMA, b=2 * SIGMA)
            nn.init.zeros_(linear.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return states of the same shape, (..., hidden)."""
        return states + self.up(functional.gelu(self.down(states)))


class AdaptedLinear(nn.Linear):
    """A linear with an adapter behind it; all that reads or resizes linears takes it for the linear that it was."""

    def __init__(self, linear: nn.Linear, size: int) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make weights, and here they are there already
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.adapter = Adapter(linear.out_features, size)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what the adapter makes of the projection, (..., out)."""
        return self.adapter(super().forward(input))


def add_adapters(model: Any, size: int) -> None:
    """Put an adapter behind the output projections of attention and FFN in every layer, in place, with new weights.

    Args:
        model: dense or pruned, without adapters.
        size: of the bottleneck.
    """
    family = family_of(model.config.model_type)
    for layer in layers(model):
        for path in (family.attention_output, family.ffn_out):
            parent, _, name = path.rpartition(".")
            holder = descend(layer.module, parent)
            setattr(holder, name, AdaptedLinear(getattr(holder, name), size))


def adapter_of(linear: nn.Linear) -> Adapter | None:
    """Return the adapter behind a linear, or None."""
    return linear.adapter if isinstance(linear, AdaptedLinear) else None


def adapters(model: Any) -> list[Adapter]:
    """Return a model's adapters from the first to the last: two a layer, or none at all."""
    found = (adapter_of(linear) for layer in layers(model) for linear in (layer.attention_output, layer.ffn_out))
    return [adapter for adapter in found if adapter is not None]


def adapter_size(model: Any) -> int:
    """Return the width of a model's adapters; 0 without any."""
    return next((adapter.down.out_features for adapter in adapters(model)), 0)


def refuse_adapters(model: Any, verb: str) -> None:
    """Refuse what does not know adapters.

    Raises:
        UsageError: the model has some.
    """
    if adapter_size(model):
        raise UsageError(
            f"{verb} does not take a model with adapters",
            f"{verb} the model first, then add adapters to the outcome: compress finetune SMALL --mode adapter",
        )
