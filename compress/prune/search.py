"""Which units to keep: the least loss within a budget of time, FLOPs or parameters, exactly.

Units are ranked within each sublayer, so that a sublayer's choice is only how many to keep; which numbers to keep is a
multiple-choice knapsack over all sublayers, solved by dynamic programming (Kellerer et al. 2004, ch. 11).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from compress.core.errors import UsageError
from compress.editing.knapsack import knapsack
from compress.models import shape as shapes
from compress.prune.scores import LayerScores

FIRST = 0.6  # of the cost is left by the first step of pruning
STEP = 0.75  # and by each further one
ALIGNMENT = 16  # FFN widths are kept to multiples of this, where vector units are full


@dataclass(frozen=True)
class Kept:
    """The units that stay in a layer: ascending positions."""

    heads: list[int]
    neurons: list[int]


@dataclass(frozen=True)
class Ranking:
    """A sublayer's units, those that matter most first, and the loss of keeping only the first k of them.

    `order` (units,) positions; `loss` (units + 1,) float64, from keeping none to keeping all, which loses nothing.
    """

    order: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class LayerRanking:
    """The rankings of a layer's two sublayers."""

    heads: Ranking
    neurons: Ranking


def ranked(scores: np.ndarray) -> Ranking:
    """Rank units by their scores (units,), whose losses add up.

    >>> ranked(np.array([1.0, 3.0, 2.0])).loss.tolist()
    [6.0, 3.0, 1.0, 0.0]
    """
    order = np.argsort(-scores, kind="stable")
    lost = np.concatenate([[0.0], np.cumsum(scores[order][::-1])])[::-1]
    return Ranking(order, np.maximum(lost, 0.0))


def rankings(scores: Sequence[LayerScores]) -> list[LayerRanking]:
    """Rank the units of every layer by scores that add up."""
    return [LayerRanking(ranked(layer.heads.numpy()), ranked(layer.neurons.numpy())) for layer in scores]


def ranked_jointly(gradients: torch.Tensor) -> Ranking:
    """Rank units by their gates' gradients (examples, units), with what they do together: the block of the Fisher matrix.

    Units go one by one, each time the one whose going raises `sum_examples (sum_gone gradient)^2 / 2` least (the
    rearrangement of Kwon et al. 2022, section 4.3, done for every number of units at once). What the gone ones' own terms
    add up to counts half, so that a sum that cancels by chance on the calibration examples is not taken for free.
    """
    fisher = (gradients.T @ gradients).double().numpy()
    own = fisher.diagonal().copy()
    count = len(own)
    together, left = np.zeros(count), np.ones(count, dtype=bool)
    order, lost = [], [0.0]
    block = alone = 0.0
    for _ in range(count):
        rise = np.where(left, own + together, np.inf)  # of (block + alone) / 2: own + own / 2 + half the cross terms
        unit = int(np.argmin(rise))
        block += own[unit] + 2 * together[unit]
        alone += own[unit]
        together += fisher[unit]
        left[unit] = False
        order.append(unit)
        lost.append(max(lost[-1], (block + alone) / 4))
    return Ranking(np.array(order[::-1], dtype=np.int64), np.array(lost[::-1]))


@dataclass(frozen=True)
class Costs:
    """What a model costs, by the number of units in each sublayer: in time, in FLOPs of a sequence, or in parameters.

    A classifier of texts computes its first token only from the last layer that mixes tokens on, which makes those
    sublayers cheaper: they have costs of their own. Every array starts with the cost of zero units.

    `heads` is (most heads + 1,), `neurons` (widest FFN + 1,), float64; `last` holds the same two for the last layers, or
    nothing where all layers cost the same; `fixed` is what no choice changes.
    """

    heads: np.ndarray
    neurons: np.ndarray
    fixed: float = 0.0
    last: tuple[np.ndarray, np.ndarray] | None = None

    def total(self, shape: shapes.Shape) -> float:
        """Return the cost of a shape."""
        mixing = [number for number, layer in enumerate(shape.layers) if layer.heads]
        last = mixing[-1] if mixing else -1
        cost = self.fixed
        for number, layer in enumerate(shape.layers):
            heads, neurons = self.of_layer(number, last)
            cost += heads[layer.heads] + neurons[layer.ffn]
        return float(cost)

    def of_layer(self, number: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the costs of a layer's heads and neurons, where layer `last` is the last that mixes tokens."""
        last_heads, last_neurons = self.last or (self.heads, self.neurons)
        return (self.heads if number < last else last_heads), (self.neurons if number < last else last_neurons)


def counted_costs(shape: shapes.Shape, count: Literal["flops", "params"], seq_len: int) -> Costs:
    """Return costs in FLOPs of a sequence of `seq_len` tokens, or in parameters: each unit costs the same."""
    if count == "flops":
        head, neuron = shapes.head_flops(shape.hidden, shape.head_size, seq_len), shapes.neuron_flops(shape.hidden, seq_len)
    else:
        head, neuron = shapes.head_params(shape.hidden, shape.head_size), shapes.neuron_params(shape.hidden)
    heads = head * np.arange(max(layer.heads for layer in shape.layers) + 1, dtype=np.float64)
    neurons = neuron * np.arange(max(layer.ffn for layer in shape.layers) + 1, dtype=np.float64)
    return Costs(heads, neurons)


def fitting_shares(share: float, steps: int | None, dense: bool = True) -> list[float]:
    """Return the shares of the cost kept after each step on the way to `share`.

    By default the first step from a dense model leaves six tenths, because it spares that much at once and is the dearest
    to score, and each further one about three quarters; a given number of steps goes by equal factors.

    >>> [round(kept, 2) for kept in fitting_shares(0.25, None)]
    [0.6, 0.45, 0.33, 0.25]
    """
    if steps is None and dense:
        if share < FIRST * STEP:
            return [FIRST, *(FIRST * part for part in fitting_shares(share / FIRST, None, dense=False))]
        return _even(share, 1 if share >= FIRST else 2)
    return _even(share, steps or max(1, math.ceil(math.log(share) / math.log(STEP) - 1e-9)))


def _even(share: float, count: int) -> list[float]:
    return [share ** ((number + 1) / count) for number in range(count)]


@dataclass(frozen=True)
class _Choice:
    """One sublayer in the knapsack: each option keeps a number of units, at a loss and a cost."""

    counts: np.ndarray
    loss: np.ndarray
    cost: np.ndarray


def solve(layers: Sequence[LayerRanking], costs: Costs, budget: float) -> list[Kept]:
    """Return the units that lose least within a budget: optimal for the given losses and costs, up to one cell a sublayer.

    Minimises the sum of the sublayers' losses subject to the sum of their costs. Widths of FFNs are multiples of 16, or
    whole. Where the last layers are cheaper, each layer in turn is taken for the last that mixes tokens.

    Args:
        layers: one entry a layer.
        costs: of the sublayers.
        budget: what the model may cost, `costs.fixed` included.

    Raises:
        UsageError: not even the cheapest model is within the budget.
    """
    best_loss, best = np.inf, None
    for choices in _problems(layers, costs):
        found = knapsack([(choice.loss, choice.cost) for choice in choices], budget - costs.fixed)
        if found is not None and found[0] < best_loss:
            best_loss, best = found[0], [int(choice.counts[option]) for choice, option in zip(choices, found[1], strict=True)]
    if best is None or not any(best):
        raise UsageError("the target is so small that nothing of the encoder would be left", "choose a less ambitious target")
    return [
        Kept(sorted(layer.heads.order[:heads].tolist()), sorted(layer.neurons.order[:neurons].tolist()))
        for layer, heads, neurons in zip(layers, best[::2], best[1::2], strict=True)
    ]


def _problems(layers: Sequence[LayerRanking], costs: Costs) -> Iterator[list[_Choice]]:
    """Yield the knapsacks to solve: one, or one for each layer that may be the last to mix tokens."""
    if costs.last is None:
        yield [choice for layer in layers for choice in _choices(layer, costs.heads, costs.neurons)]
        return
    for last, top in enumerate(layers):
        choices = []
        for number, layer in enumerate(layers):
            attention, ffn = _choices(layer, *costs.of_layer(number, last))
            if number >= last:  # some head here, none above
                asked = attention.counts > 0 if number == last else attention.counts == 0
                attention = _Choice(attention.counts[asked], attention.loss[asked], attention.cost[asked])
            choices += [attention, ffn]
        if len(top.heads.order):
            yield choices


def _choices(layer: LayerRanking, heads: np.ndarray, neurons: np.ndarray) -> tuple[_Choice, _Choice]:
    return _choice(layer.heads, heads, 1), _choice(layer.neurons, neurons, ALIGNMENT)


def _choice(ranking: Ranking, cost: np.ndarray, step: int) -> _Choice:
    size = len(ranking.order)
    counts = np.unique(np.append(np.arange(0, size + 1, step), size))
    return _Choice(counts, ranking.loss[counts], cost[counts])
