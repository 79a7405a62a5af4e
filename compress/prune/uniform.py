"""One width for every layer: shapes that plain transformers loads.

A plain checkpoint has one FFN width, and as many heads as its hidden size holds. So heads stay, neurons go evenly, and whole
layers go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compress.core.errors import UsageError
from compress.models import shape as shapes
from compress.prune.search import ALIGNMENT, Costs, Kept, LayerRanking

GONE = Kept([], [])  # a layer that goes as a whole
ROUNDING = 1e-9  # relative, of budgets: half of the layers cost half, though shares of shares may multiply to a little less


def check_plain(shape: shapes.Shape, name: str) -> None:
    """Refuse a model that is no plain one to begin with.

    Raises:
        UsageError: its layers differ, or lack heads or all neurons.
    """
    first = shape.layers[0]
    if len(set(shape.layers)) > 1 or first.heads * shape.head_size != shape.hidden or not first.ffn:
        raise UsageError(f"{name} has no equal layers with all their heads", "leave out --uniform, or start from the dense model")


def least_plain(shape: shapes.Shape) -> shapes.Shape:
    """Return the smallest plain shape within a plain one: one layer, of the least width."""
    first = shape.layers[0]
    return replace(shape, layers=(replace(first, ffn=min(ALIGNMENT, first.ffn)),))


def solve_uniform(layers: Sequence[LayerRanking], costs: Costs, budget: float) -> list[Kept]:
    """Return the units that lose least within a budget, with whole layers gone and equal FFN widths in those that stay.

    What a choice costs depends on the width and on the number of layers alone, so for each of these the layers that stay
    are those whose going would lose most beyond what the width takes of them: the result is optimal for the given losses.

    Args:
        layers: one entry a layer, all with equally many heads and neurons.
        costs: of the sublayers.
        budget: what the model may cost, `costs.fixed` included.

    Raises:
        UsageError: not even one layer of the least width is within the budget.
    """
    heads, widest = len(layers[0].heads.order), len(layers[0].neurons.order)
    gone = np.array([layer.heads.loss[0] + layer.neurons.loss[0] for layer in layers])
    best_loss, best = np.inf, None
    for width in sorted({*range(min(ALIGNMENT, widest), widest + 1, ALIGNMENT), widest}):
        cut = np.array([layer.neurons.loss[width] for layer in layers])
        order = np.argsort(cut - gone, kind="stable")
        for count in range(1, len(layers) + 1):
            parts = [costs.of_layer(number, count - 1) for number in range(count)]
            cost = costs.fixed + sum(of_heads[heads] + of_neurons[width] for of_heads, of_neurons in parts)
            loss = float(cut[order[:count]].sum() + gone[order[count:]].sum())
            if cost <= budget * (1 + ROUNDING) and loss < best_loss:
                best_loss, best = loss, (width, sorted(order[:count].tolist()))
    if best is None:
        raise UsageError("the target is so small that not one whole layer would be left", "choose a milder target, or leave out --uniform")
    width, stay = best
    every = list(range(heads))
    return [Kept(every, sorted(layer.neurons.order[:width].tolist())) if number in stay else GONE for number, layer in enumerate(layers)]
