"""What all strategies share: targets in order, and the search for the fastest model within an accuracy budget."""

from __future__ import annotations

from typing import Any

import pytest

from compress.core.errors import UsageError
from compress.models.model_shape import model_shape
from compress.prune.cost_model import CostModel
from compress.prune.curve import Curve, PruneCandidate, Pruned
from compress.prune.strategy import fastest_within, reach
from compress.prune.targets import PruneTarget
from tests import tiny
from tests.unit.prune.fakes import FakeClock, rough_costs


class Numbered:
    """A strategy whose candidates are numbered in their refits."""

    def __init__(self, count: int) -> None:
        self.count, self.made = count, 0
        self.calls: list[tuple[int | None, int]] = []

    def cut_to(self, target: PruneTarget) -> PruneCandidate:
        return self._next()

    def smaller(self, accepted: PruneCandidate | None, rejections: int) -> PruneCandidate | None:
        self.calls.append((accepted.refits["number"] if accepted else None, rejections))
        return self._next() if self.made < self.count else None

    def _next(self) -> PruneCandidate:
        self.made += 1
        return PruneCandidate(tiny.make_model(), {"number": self.made})


class Scored(Curve):
    """A curve with given scores."""

    def __init__(self, scores: list[float]) -> None:
        dense = model_shape(tiny.make_model())
        self.cost_model = CostModel(dense, "time", 20, rough_costs(dense), FakeClock(dense))
        self.scores, self.points = iter(scores), []

    def record(self, model: Any, limit: int | None = None, timed: bool = False) -> float:
        assert limit is None
        assert timed
        return next(self.scores)

    def finish(self, target: PruneTarget, candidate: PruneCandidate) -> Pruned:
        return Pruned(target, candidate.model, 1.0, 1.0, [1.0, 1.0], {}, candidate.refits)


def test_targets_are_reached_one_by_one() -> None:
    """Lazily: a model is written before the next target is started."""
    strategy = Numbered(9)
    found = reach(strategy, Scored([]), [PruneTarget("a", 1.0), PruneTarget("b", 0.5)])
    first = next(found)
    assert (first.target.name, first.refits, strategy.made) == ("a", {"number": 1}, 1)
    assert [result.target.name for result in found] == ["b"]


def test_the_last_model_within_the_budget_is_the_result() -> None:
    strategy = Numbered(5)
    result = fastest_within(strategy, Scored([0.90, 0.88, 0.80, 0.89, 0.70]), 2.0, 0.90)
    assert result.refits == {"number": 4}
    assert result.target.name == "drop 2"
    assert strategy.calls == [(None, 0), (1, 0), (2, 0), (2, 1), (4, 1), (4, 2)]


def test_no_model_within_the_budget_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no smaller model keeps within 1 points of 0.9000"):
        fastest_within(Numbered(2), Scored([0.5, 0.5]), 1.0, 0.9)
    with pytest.raises(UsageError, match="keeps within"):
        fastest_within(Numbered(0), Scored([]), 1.0, 0.9)
