"""The multiple-choice knapsack: one option of each group, the least loss within a budget (Kellerer et al. 2004, ch. 11)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CELLS = 4096  # into which a budget is divided; costs are rounded up to whole cells, so that no budget is exceeded


def knapsack(groups: Sequence[tuple[np.ndarray, np.ndarray]], budget: float, cells: int = CELLS) -> tuple[float, list[int]] | None:
    """Choose one option of each group so that the losses' sum is least and the costs' sum within the budget.

    Dynamic programming over a grid of costs: `best[c]` is the least loss of the groups so far at a cost of at most c
    cells. Costs are rounded up to cells, so the result is feasible, and optimal but for that rounding.

    Args:
        groups: losses and costs of each group's options, (options,) each; costs are not negative.
        budget: of all costs together.
        cells: of the grid.

    Returns:
        The least loss and each group's option; None where nothing fits.
    """
    if budget <= 0:
        if budget < 0 or any((cost > 0).all() for _, cost in groups):
            return None
        budget = 1e-300
    best = np.zeros(cells + 1)
    taken = np.zeros((len(groups), cells + 1), dtype=np.int16)
    steps = [np.ceil(np.minimum(cost, 2 * budget) / budget * cells - 1e-9).astype(np.int64) for _, cost in groups]
    for number, ((loss, _), step) in enumerate(zip(groups, steps, strict=True)):
        found = np.full(cells + 1, np.inf)
        for option in np.flatnonzero(step <= cells):
            start = step[option]
            candidate = best[: cells + 1 - start] + loss[option]
            better = candidate < found[start:]
            found[start:][better] = candidate[better]
            taken[number, start:][better] = option
        best = found
    if not np.isfinite(best[cells]):
        return None
    chosen, left = [], cells
    for number in reversed(range(len(groups))):
        option = int(taken[number, left])
        chosen.append(option)
        left -= int(steps[number][option])
    return float(best[cells]), chosen[::-1]
