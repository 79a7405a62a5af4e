"""The multiple-choice knapsack problem: one option per group, the least total loss within a budget (Kellerer et al. 2004, ch. 11)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CELLS = 4096  # grid of a budget; costs are rounded up to whole cells, so no budget is exceeded
TINY = 1e-300  # a budget of zero, made divisible


def knapsack(groups: Sequence[tuple[np.ndarray, np.ndarray]], budget: float, cells: int = CELLS) -> tuple[float, list[int]] | None:
    """Choose one option per group so that the sum of losses is least and the sum of costs is within the budget.

    Dynamic programming over a grid of costs: `best[c]` is the least loss of the groups so far at a cost of at most c
    cells. Costs are rounded up to cells, so the result is feasible, and optimal up to that rounding.

    Args:
        groups: losses and costs of each group's options, (options,) each; costs are not negative.
        budget: for all costs together.
        cells: cells of the grid.

    Returns:
        The least loss and each group's option; None if nothing fits.
    """
    if budget <= 0:
        if budget < 0 or any((cost > 0).all() for _, cost in groups):
            return None
        budget = TINY
    best = np.zeros(cells + 1)
    choices = np.zeros((len(groups), cells + 1), dtype=np.int16)
    steps = [np.ceil(np.minimum(cost, 2 * budget) / budget * cells - 1e-9).astype(np.int64) for _, cost in groups]
    for number, ((loss, _), step) in enumerate(zip(groups, steps, strict=True)):
        following = np.full(cells + 1, np.inf)
        for option in np.flatnonzero(step <= cells):
            start = step[option]
            candidate = best[: cells + 1 - start] + loss[option]
            better = candidate < following[start:]
            following[start:][better] = candidate[better]
            choices[number, start:][better] = option
        best = following
    if not np.isfinite(best[cells]):
        return None
    options, remaining = [], cells
    for number in reversed(range(len(groups))):
        option = int(choices[number, remaining])
        options.append(option)
        remaining -= int(steps[number][option])
    return float(best[cells]), options[::-1]
