"""Uniform pruning: all heads, one FFN width and whole layers, a shape that plain transformers loads.

A plain checkpoint has one FFN width, and as many heads as its hidden size holds. So heads stay, every layer loses equally many
neurons, and layers are removed as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compress.core.errors import UsageError
from compress.models import shape as shapes
from compress.prune.costs import ALIGNMENT, Costs
from compress.prune.ranking import LayerRanking
from compress.prune.search import Kept

REMOVED = Kept([], [])  # a layer that is removed as a whole
ROUNDING = 1e-9  # relative tolerance of budgets: half of the layers cost half, but a product of shares may be a little less


def check_plain(shape: shapes.Shape, name: str) -> None:
    """Refuse a model that does not have a plain shape to begin with.

    Raises:
        UsageError: its layers differ, or lack heads or all neurons.
    """
    first = shape.layers[0]
    if len(set(shape.layers)) > 1 or first.heads * shape.head_size != shape.hidden or not first.ffn:
        raise UsageError(f"{name} has no equal layers with all their heads", "leave out --uniform, or start from the dense model")


def least_plain(shape: shapes.Shape) -> shapes.Shape:
    """Return the smallest plain shape within a plain one: one layer of the smallest width."""
    first = shape.layers[0]
    return replace(shape, layers=(replace(first, ffn=min(ALIGNMENT, first.ffn)),), shared=())


def solve_uniform(layers: Sequence[LayerRanking], costs: Costs, budget: float) -> list[Kept]:
    """Return the units to keep that lose least within a budget, with whole layers removed and one FFN width in the others.

    The cost depends only on the width and on the number of layers. So for each pair of these, the best layers to keep are those
    whose removal would lose most beyond what the width takes from them: the result is optimal for the given losses.

    Args:
        layers: one ranking a layer, all with equally many heads and neurons.
        costs: of the sublayers.
        budget: the most that the model may cost, `costs.fixed` included.

    Raises:
        UsageError: even one layer of the smallest width exceeds the budget.
    """
    heads, full_width = len(layers[0].heads.order), len(layers[0].neurons.order)
    owners = [number if layer.owner is None else layer.owner for number, layer in enumerate(layers)]
    removal_loss = np.array([layer.heads.loss[0] + layer.neurons.loss[0] for layer in layers])
    best_loss, best = np.inf, None
    for width in sorted({*range(min(ALIGNMENT, full_width), full_width + 1, ALIGNMENT), full_width}):
        width_loss = np.array([layer.neurons.loss[width] for layer in layers])
        order = np.argsort(width_loss - removal_loss, kind="stable")
        for count in range(1, len(layers) + 1):
            counted = len({owners[number] for number in order[:count]}) if costs.once else count
            parts = [costs.of_layer(number, count - 1) for number in range(counted)]
            cost = costs.fixed + sum(of_heads[heads] + of_neurons[width] for of_heads, of_neurons in parts)
            loss = float(width_loss[order[:count]].sum() + removal_loss[order[count:]].sum())
            if cost <= budget * (1 + ROUNDING) and loss < best_loss:
                best_loss, best = loss, (width, sorted(order[:count].tolist()))
    if best is None:
        raise UsageError("the target is so small that not one whole layer would be left", "choose a milder target, or leave out --uniform")
    width, kept = best
    all_heads = list(range(heads))
    return [
        Kept(all_heads, sorted(layer.neurons.order[:width].tolist())) if number in kept else REMOVED for number, layer in enumerate(layers)
    ]
