"""Rankings: the order in which a sublayer's units would be removed, and the loss of keeping only the best k of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from compress.prune.scores import LayerScores


@dataclass(frozen=True)
class Ranking:
    """A sublayer's units, the most important first, and the loss of keeping only the first k of them.

    Attributes:
        order: (units,) positions.
        loss: (units + 1,) float64, from keeping no unit to keeping all, which loses nothing.
    """

    order: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class LayerRanking:
    """The rankings of a layer's heads and of its FFN neurons.

    Layers that share their weights lose the same units. Their rankings have the same order, and the losses of all of them together
    are those of removing a unit from each.

    Attributes:
        heads: of the heads.
        neurons: of the neurons.
        owner: the first layer that has the same weights; None: this one.
    """

    heads: Ranking
    neurons: Ranking
    owner: int | None = None


def rank_owners(owners: Sequence[int], rank: Callable[[int], LayerRanking]) -> list[LayerRanking]:
    """Rank the units of every layer; each set of weights is ranked once.

    Args:
        owners: for each layer the first one that has the same weights.
        rank: returns the ranking of an owner's units, with the losses of removing them from all its layers.
    """
    ranked = {owner: rank(owner) for owner in dict.fromkeys(owners)}
    uses = Counter(owners)

    def share(ranking: Ranking, owner: int) -> Ranking:
        return ranking if uses[owner] == 1 else Ranking(ranking.order, ranking.loss / uses[owner])

    return [
        LayerRanking(share(ranked[owner].heads, owner), share(ranked[owner].neurons, owner), None if owner == number else owner)
        for number, owner in enumerate(owners)
    ]


def rank_additive(scores: np.ndarray) -> Ranking:
    """Rank units by scores (units,) whose losses add up.

    >>> rank_additive(np.array([1.0, 3.0, 2.0])).loss.tolist()
    [6.0, 3.0, 1.0, 0.0]
    """
    order = np.argsort(-scores, kind="stable")
    loss = np.concatenate([[0.0], np.cumsum(scores[order][::-1])])[::-1]
    return Ranking(order, np.maximum(loss, 0.0))


def rank_by_scores(scores: Sequence[LayerScores], owners: Sequence[int] = ()) -> list[LayerRanking]:
    """Rank the units of every layer by scores that add up; `owners` are the layers that have their weights, by default each its own."""
    return rank_owners(
        owners or range(len(scores)),
        lambda number: LayerRanking(rank_additive(scores[number].heads.numpy()), rank_additive(scores[number].neurons.numpy())),
    )


def rank_by_fisher_block(gradients: torch.Tensor) -> Ranking:
    """Rank units by the gradients of their gates (examples, units), interactions included: the block of the Fisher matrix.

    Units are removed one by one, each time the one that raises `sum_examples (sum_removed gradient)^2 / 2` least (the
    rearrangement of Kwon et al. 2022, section 4.3, for every number of units at once). Half of the loss is the sum of the removed
    units' own terms, so that gradients that cancel by chance on the calibration examples do not look free.
    """
    fisher = (gradients.T @ gradients).double().numpy()
    diagonal = fisher.diagonal().copy()
    count = len(diagonal)
    interaction, remaining = np.zeros(count), np.ones(count, dtype=bool)
    order, loss = [], [0.0]
    block = alone = 0.0
    for _ in range(count):
        # what (block + alone) / 2 would gain: own term + own term / 2 + half of the cross terms
        increase = np.where(remaining, diagonal + interaction, np.inf)
        unit = int(np.argmin(increase))
        block += diagonal[unit] + 2 * interaction[unit]
        alone += diagonal[unit]
        interaction += fisher[unit]
        remaining[unit] = False
        order.append(unit)
        loss.append(max(loss[-1], (block + alone) / 4))
    return Ranking(np.array(order[::-1], dtype=np.int64), np.array(loss[::-1]))
