"""How far each pruning step goes on the way to a target."""

from __future__ import annotations

import math

FIRST_STEP = 0.6  # share of the cost that the first step from a dense model keeps
NEXT_STEP = 0.75  # share that each further step keeps, roughly


def step_shares(share: float, steps: int | None, dense: bool = True) -> list[float]:
    """Return the shares of the cost that are kept after each step, down to `share`.

    By default the first step from a dense model keeps six tenths, because a dense model can spare that much at once and is the
    most expensive to score, and each further step about three quarters. A given number of steps uses equal factors.

    >>> [round(kept, 2) for kept in step_shares(0.25, None)]
    [0.6, 0.45, 0.33, 0.25]
    """
    if steps is None and dense:
        if share < FIRST_STEP * NEXT_STEP:
            return [FIRST_STEP, *(FIRST_STEP * part for part in step_shares(share / FIRST_STEP, None, dense=False))]
        return _geometric(share, 1 if share >= FIRST_STEP else 2)
    return _geometric(share, steps or max(1, math.ceil(math.log(share) / math.log(NEXT_STEP) - 1e-9)))


def _geometric(share: float, count: int) -> list[float]:
    return [share ** ((number + 1) / count) for number in range(count)]
