"""From strategies to results: reach given targets, or find the fastest model within an accuracy budget.

A strategy knows how to make a model smaller; what is the same for all of them is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from compress.core.errors import UsageError
from compress.data.metrics import points_lost
from compress.models.model_shape import model_shape
from compress.prune.curve import Curve, PruneCandidate, Pruned
from compress.prune.targets import PruneTarget


class Strategy(Protocol):
    """A way to make the dense model smaller."""

    def cut_to(self, target: PruneTarget) -> PruneCandidate:
        """Return a model that reaches the target, refitted and recovered; targets come in order, the mildest first.

        Raises:
            UsageError: no model reaches it.
        """
        ...

    def smaller(self, accepted: PruneCandidate | None, rejections: int) -> PruneCandidate | None:
        """Return the next model to try for an accuracy budget, refitted and recovered; None if there is none.

        Args:
            accepted: the smallest model within the budget so far; None: only the dense one is.
            rejections: how many models were outside of the budget so far.
        """
        ...


def reach(strategy: Strategy, curve: Curve, targets: Sequence[PruneTarget]) -> Iterator[Pruned]:
    """Yield a model for each target, the mildest first.

    Raises:
        UsageError: no model reaches one of them.
    """
    for target in targets:
        yield curve.finish(target, strategy.cut_to(target))


def fastest_within(strategy: Strategy, curve: Curve, max_drop: float, dense_score: float) -> Pruned:
    """Return the fastest model that loses at most `max_drop` points of the main metric on validation.

    Raises:
        UsageError: every smaller model loses more.
    """
    best, rejections = None, 0
    while (candidate := strategy.smaller(best, rejections)) is not None:
        if points_lost(dense_score, curve.record(candidate.model, timed=True)) <= max_drop:
            best = candidate
        else:
            rejections += 1
    if best is None:
        raise UsageError(
            f"no smaller model keeps within {max_drop:g} points of {dense_score:.4f} on validation",
            "allow more with --max-drop, or let it recover: --recover-epochs 3",
        )
    cost_model = curve.cost_model
    cost = cost_model.costs.total(model_shape(best.model))
    return curve.finish(PruneTarget(f"drop {max_drop:g}", cost, share=cost / cost_model.dense_cost), best)
