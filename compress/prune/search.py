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
    width. Layers that share their weights keep the same units: they are one choice, with the sum of their losses and of their costs.
    Where the last layers are cheaper, the knapsack is solved once for each layer that may be the last with attention.

    Args:
        layers: one ranking a layer.
        costs: of the sublayers, with the shares of tokens that the layers keep.
        budget: the most that the model may cost, `costs.fixed` included.

    Raises:
        UsageError: even the cheapest model exceeds the budget.
    """
    best_loss, best = np.inf, None
    owners = [number if layer.owner is None else layer.owner for number, layer in enumerate(layers)]
    for every_sublayer in _knapsacks(layers, costs):
        sublayers = _one_choice_each(every_sublayer, owners, costs.once)
        if sublayers is None:
            continue
        solution = knapsack([(options.loss, options.cost) for options in sublayers], budget - costs.fixed)
        if solution is not None and solution[0] < best_loss:
            best_loss = solution[0]
            best = [int(options.counts[choice]) for options, choice in zip(sublayers, solution[1], strict=True)]
    groups = list(dict.fromkeys(owners))
    if best is None or not any(best):
        raise UsageError("the target is so small that nothing of the encoder would be left", "choose a less ambitious target")
    counts = dict(zip(groups, zip(best[::2], best[1::2], strict=True), strict=True))
    return [
        Kept(sorted(layer.heads.order[: counts[owner][0]].tolist()), sorted(layer.neurons.order[: counts[owner][1]].tolist()))
        for layer, owner in zip(layers, owners, strict=True)
    ]


def _knapsacks(layers: Sequence[LayerRanking], costs: Costs) -> Iterator[list[_Options]]:
    """Yield the knapsacks to solve: one, or one for each layer that may be the last with attention."""
    if costs.last is None:
        every = [_layer_options(layer, *costs.of_layer(number, len(layers))) for number, layer in enumerate(layers)]
        yield [options for pair in every for options in pair]
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


def _one_choice_each(sublayers: Sequence[_Options], owners: Sequence[int], once: bool) -> list[_Options] | None:
    """Return the options of each owner's two sublayers, those of all its layers together; None if a sublayer would have none.

    Args:
        sublayers: attention and FFN of each layer, in turn.
        owners: of the layers.
        once: an owner costs as much as one layer.
    """
    together: dict[tuple[int, int], _Options] = {}
    for place, options in enumerate(sublayers):
        key = (owners[place // 2], place % 2)
        together[key] = _both(together[key], options, once) if key in together else options
    return None if any(not len(options.counts) for options in together.values()) else list(together.values())


def _both(first: _Options, second: _Options, once: bool) -> _Options:
    counts, ours, theirs = np.intersect1d(first.counts, second.counts, return_indices=True)
    cost = first.cost[ours] if once else first.cost[ours] + second.cost[theirs]
    return _Options(counts, first.loss[ours] + second.loss[theirs], cost)


def _layer_options(layer: LayerRanking, heads: np.ndarray, neurons: np.ndarray) -> tuple[_Options, _Options]:
    return _options(layer.heads, heads, 1), _options(layer.neurons, neurons, ALIGNMENT)


def _options(ranking: Ranking, cost: np.ndarray, step: int) -> _Options:
    size = len(ranking.order)
    counts = np.unique(np.append(np.arange(0, size + 1, step), size))
    return _Options(counts, ranking.loss[counts], cost[counts])
