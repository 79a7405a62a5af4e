"""Rank allocation: the least total loss within a budget of weights, over all linears at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.core.errors import UsageError
from compress.editing.knapsack import knapsack
from compress.models.shape import Shape, factor_weights

WHOLE = 0  # the rank of a dense linear
RANK_STEP = 8  # ranks are multiples of this if at least four of them fit
CELLS = 16_384  # of the knapsack's grid; each linear wastes at most one
Size = tuple[int, int]  # inputs and outputs of a linear


def break_even(size: Size) -> int:
    """Return the largest rank whose factors are smaller than the linear.

    >>> break_even((768, 768)), break_even((768, 3072))
    (383, 614)
    """
    inputs, outputs = size
    return (inputs * outputs - 1) // (inputs + outputs)


def ranks_for(size: Size) -> list[int]:
    """Return the ranks to choose from, ascending, with `WHOLE` as the last one."""
    largest = break_even(size)
    step = RANK_STEP if largest >= 4 * RANK_STEP else 1
    return [*range(step, largest + 1, step), WHOLE]


def weights_of(size: Size, rank: int) -> int:
    """Return how many weights a linear has at a rank."""
    return factor_weights(*size, rank) if rank else size[0] * size[1]


def allocate(sizes: Sequence[Size], losses: Sequence[np.ndarray], budget: int, uses: Sequence[int] = ()) -> list[int]:
    """Return the rank of each linear (`WHOLE`: not factorized) with the least sum of losses within a budget of weights.

    A multiple-choice knapsack, solved by dynamic programming: optimal up to a 16,384th of the budget for each linear.

    Args:
        sizes: of the linears.
        losses: for each linear, the loss of every rank from 0 to the full one, (ranks + 1,).
        budget: the most weights of all linears together.
        uses: how often each linear's weights count; once by default.

    Raises:
        UsageError: even the smallest ranks exceed the budget.
    """
    options = [ranks_for(size) for size in sizes]
    groups = [
        (np.array([loss[rank] if rank else 0.0 for rank in ranks]), np.array([float(count * weights_of(size, rank)) for rank in ranks]))
        for size, loss, ranks, count in zip(sizes, losses, options, uses or [1] * len(sizes), strict=True)
    ]
    solution = knapsack(groups, float(budget), CELLS)
    if solution is None:
        raise UsageError("the target is so small that not even the lowest ranks would reach it", "choose a milder target")
    return [ranks[choice] for ranks, choice in zip(options, solution[1], strict=True)]


def fixed_ranks(sizes: Sequence[Size], rank: int | None, ratio: float | None) -> list[int]:
    """Return one rank for all linears, or the ranks that keep a share of the weights; `WHOLE` where factors would not be smaller.

    Raises:
        UsageError: no linear would be smaller.
    """
    requested = [rank or max(1, int((ratio or 1.0) * inputs * outputs / (inputs + outputs))) for inputs, outputs in sizes]
    ranks = [each if each <= break_even(size) else WHOLE for each, size in zip(requested, sizes, strict=True)]
    if not any(ranks):
        largest = max(map(break_even, sizes), default=0)
        raise UsageError(f"at rank {rank} no linear of this model would be smaller", f"give --rank {largest} or less")
    return ranks


def weight_budget(before: Shape, current: Shape, flops: float | None, params: float | None, seq_len: int) -> int:
    """Return how many weights the linears may have, for a share of the encoder's FLOPs or parameters.

    Args:
        before: the dense model.
        current: the model with factorized embeddings, if any; the weights outside the linears are already spent.
        flops: share to keep, or None.
        params: share to keep, or None; weights that layers share count once.
        seq_len: tokens of a text, for FLOPs.
    """
    weights = [sum(inputs * outputs for inputs, outputs in current.linear_sizes(layer).values()) for layer in current.layers]
    if flops is not None:
        return int((flops * before.flops(seq_len) - current.flops(seq_len)) // (2 * seq_len)) + sum(weights)
    assert params is not None  # noqa: S101 (one of both)
    owners = current.shared or range(len(weights))
    return int(params * before.params() - current.params()) + sum(weights[owner] for owner in set(owners))
