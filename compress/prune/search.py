"""Which units to keep: the least loss within a budget of time, FLOPs or parameters, exactly.

Units are ranked within each sublayer, so that the only choice is how many of them a sublayer keeps. These numbers are a
multiple-choice knapsack over all sublayers, solved by dynamic programming (Kellerer et al. 2004, ch. 11).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compress.core.errors import UsageError
from compress.editing.knapsack import knapsack
from compress.prune.costs import ALIGNMENT, Costs
from compress.prune.ranking import LayerRanking, Ranking


@dataclass(frozen=True)
class Kept:
    """The units that a layer keeps: ascending positions."""

    heads: list[int]
    neurons: list[int]


@dataclass(frozen=True)
class _Options:
    """One sublayer in the knapsack: each option keeps a number of units, at a loss and a cost."""

    counts: np.ndarray
    loss: np.ndarray
    cost: np.ndarray


def solve(layers: Sequence[LayerRanking], costs: Costs, budget: float) -> list[Kept]:
    """Return the units to keep that lose least within a budget: optimal for the given losses, up to one grid cell a sublayer.

    Minimises the sum of the sublayers' losses subject to the sum of their costs. FFN widths are multiples of 16, or the whole
    width. Where the last layers are cheaper, the knapsack is solved once for each layer that may be the last with attention.

    Args:
        layers: one ranking a layer.
        costs: of the sublayers.
        budget: the most that the model may cost, `costs.fixed` included.

    Raises:
        UsageError: even the cheapest model exceeds the budget.
    """
    best_loss, best = np.inf, None
    for sublayers in _knapsacks(layers, costs):
        solution = knapsack([(options.loss, options.cost) for options in sublayers], budget - costs.fixed)
        if solution is not None and solution[0] < best_loss:
            best_loss = solution[0]
            best = [int(options.counts[choice]) for options, choice in zip(sublayers, solution[1], strict=True)]
    if best is None or not any(best):
        raise UsageError("the target is so small that nothing of the encoder would be left", "choose a less ambitious target")
    return [
        Kept(sorted(layer.heads.order[:heads].tolist()), sorted(layer.neurons.order[:neurons].tolist()))
        for layer, heads, neurons in zip(layers, best[::2], best[1::2], strict=True)
    ]


def _knapsacks(layers: Sequence[LayerRanking], costs: Costs) -> Iterator[list[_Options]]:
    """Yield the knapsacks to solve: one, or one for each layer that may be the last with attention."""
    if costs.last is None:
        yield [options for layer in layers for options in _layer_options(layer, costs.heads, costs.neurons)]
        return
    for last, last_layer in enumerate(layers):
        sublayers = []
        for number, layer in enumerate(layers):
            attention, ffn = _layer_options(layer, *costs.of_layer(number, last))
            if number >= last:  # at least one head in the last layer with attention, none above it
                allowed = attention.counts > 0 if number == last else attention.counts == 0
                attention = _Options(attention.counts[allowed], attention.loss[allowed], attention.cost[allowed])
            sublayers += [attention, ffn]
        if len(last_layer.heads.order):
            yield sublayers


def _layer_options(layer: LayerRanking, heads: np.ndarray, neurons: np.ndarray) -> tuple[_Options, _Options]:
    return _options(layer.heads, heads, 1), _options(layer.neurons, neurons, ALIGNMENT)


def _options(ranking: Ranking, cost: np.ndarray, step: int) -> _Options:
    size = len(ranking.order)
    counts = np.unique(np.append(np.arange(0, size + 1, step), size))
    return _Options(counts, ranking.loss[counts], cost[counts])
