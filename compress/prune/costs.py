"""Costs of sublayers by their number of units, and the cost of a whole shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from compress.models import shape as shapes

ALIGNMENT = 16  # FFN widths are multiples of this, where vector units are full
AtShares = Callable[[float, float], "Costs"]


@dataclass(frozen=True)
class Costs:
    """The cost of every sublayer by its number of units: milliseconds, FLOPs of a sequence, or parameters.

    From the last layer with attention on, a text classifier computes its first token only, which makes those sublayers cheaper:
    they have their own costs. The first entry of every array is the cost of a sublayer without units.

    Attributes:
        heads: (most heads + 1,) float64.
        neurons: (widest FFN + 1,) float64.
        fixed: the part that no choice of units changes.
        last: the same two arrays for the last layers; None where all layers cost the same.
        once: layers that share their weights cost as much as one of them: parameters.
        at_shares: returns what a layer costs if this share of the tokens enters it, and that one leaves its attention; None: as much.
        token_shares: those that leave each layer's attention, for `of_layer`; empty: all tokens.
    """

    heads: np.ndarray
    neurons: np.ndarray
    fixed: float = 0.0
    last: tuple[np.ndarray, np.ndarray] | None = None
    once: bool = False
    at_shares: AtShares | None = None
    token_shares: tuple[float, ...] = ()

    def with_token_shares(self, shares: Sequence[float]) -> Costs:
        """Return the costs of layers that keep shares of the tokens, as `Shape.token_shares` has them."""
        return self if all(share >= 1 for share in shares) else replace(self, token_shares=tuple(shares))

    def total(self, shape: shapes.Shape) -> float:
        """Return the cost of a shape."""
        with_attention = [number for number, layer in enumerate(shape.layers) if layer.heads]
        last = with_attention[-1] if with_attention else -1
        cost, own = self.fixed, replace(self, token_shares=shape.token_shares)
        for number, layer in enumerate(shape.layers):
            if self.once and shape.shared and shape.shared[number] != number:
                continue
            heads, neurons = own.of_layer(number, last)
            cost += heads[layer.heads] + neurons[layer.ffn]
        return float(cost)

    def of_layer(self, number: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the costs of a layer's heads and neurons if `last` is the last layer with attention."""
        costs = self
        if self.at_shares is not None and self.token_shares:
            before, after = (1.0, *self.token_shares)[number : number + 2]
            costs = self.at_shares(before, after) if before < 1 or after < 1 else self
        last_heads, last_neurons = costs.last or (costs.heads, costs.neurons)
        return (costs.heads if number < last else last_heads), (costs.neurons if number < last else last_neurons)


def counted_costs(shape: shapes.Shape, unit: Literal["flops", "params"], seq_len: int) -> Costs:
    """Return costs in FLOPs of a sequence of `seq_len` tokens, or in parameters: every unit of a kind costs the same."""
    if unit == "params":
        head, neuron = shapes.head_params(shape.hidden, shape.head_size), shapes.neuron_params(shape.hidden, shape.gated)
        return replace(_even_costs(shape, head, neuron), once=True)

    def at_shares(before: float, after: float) -> Costs:
        tokens, kept = shapes.kept_tokens(seq_len, before), shapes.kept_tokens(seq_len, after)
        head = shapes.head_flops(shape.hidden, shape.head_size, tokens, kept)
        return _even_costs(shape, head, shapes.neuron_flops(shape.hidden, kept, shape.gated))

    return replace(at_shares(1.0, 1.0), at_shares=at_shares)


def _even_costs(shape: shapes.Shape, head: int, neuron: int) -> Costs:
    """Return the costs of units of which all heads cost the same, and all neurons."""
    heads = head * np.arange(max(layer.heads for layer in shape.layers) + 1, dtype=np.float64)
    neurons = neuron * np.arange(max(layer.ffn for layer in shape.layers) + 1, dtype=np.float64)
    return Costs(heads, neurons)
