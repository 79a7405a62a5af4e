"""Costs of sublayers by their number of units, and the cost of a whole shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from compress.models import shape as shapes

ALIGNMENT = 16  # FFN widths are multiples of this, where vector units are full


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
    """

    heads: np.ndarray
    neurons: np.ndarray
    fixed: float = 0.0
    last: tuple[np.ndarray, np.ndarray] | None = None
    once: bool = False

    def total(self, shape: shapes.Shape) -> float:
        """Return the cost of a shape."""
        with_attention = [number for number, layer in enumerate(shape.layers) if layer.heads]
        last = with_attention[-1] if with_attention else -1
        cost = self.fixed
        for number, layer in enumerate(shape.layers):
            if self.once and shape.shared and shape.shared[number] != number:
                continue
            heads, neurons = self.of_layer(number, last)
            cost += heads[layer.heads] + neurons[layer.ffn]
        return float(cost)

    def of_layer(self, number: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the costs of a layer's heads and neurons if `last` is the last layer with attention."""
        last_heads, last_neurons = self.last or (self.heads, self.neurons)
        return (self.heads if number < last else last_heads), (self.neurons if number < last else last_neurons)


def counted_costs(shape: shapes.Shape, unit: Literal["flops", "params"], seq_len: int) -> Costs:
    """Return costs in FLOPs of a sequence of `seq_len` tokens, or in parameters: every unit of a kind costs the same."""
    if unit == "flops":
        head, neuron = shapes.head_flops(shape.hidden, shape.head_size, seq_len), shapes.neuron_flops(shape.hidden, seq_len, shape.gated)
    else:
        head, neuron = shapes.head_params(shape.hidden, shape.head_size), shapes.neuron_params(shape.hidden, shape.gated)
    heads = head * np.arange(max(layer.heads for layer in shape.layers) + 1, dtype=np.float64)
    neurons = neuron * np.arange(max(layer.ffn for layer in shape.layers) + 1, dtype=np.float64)
    return Costs(heads, neurons, once=unit == "params")
