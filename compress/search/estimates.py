"""How far a measured drop can be trusted: intervals, what similar models let expect, and the flattery of a choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from compress.report.search_words import describe_points

NORMAL = NormalDist()
Z95 = NORMAL.inv_cdf(0.975)
SAFE = 0.9  # probability with which a model must keep the limit, unless another one is asked for
SPREAD = 0.3  # points: standard deviation of a model's true drop around what is expected of it
BEND = 1.5  # power with which the loss of a family rises with its speedup
UNEVEN = 0.3  # of that loss: standard deviation of a model's true drop around the curve of its family
DOUBT = 0.5  # of the loss that training is expected to leave: its standard error
INT8_LOSS = 0.2  # points that a final form is expected to lose


@dataclass(frozen=True)
class Drop:
    """How many points of the main metric a model loses against the baseline, on n paired examples.

    Attributes:
        points: the estimate; negative if the model is better.
        error: its standard error, in points.
        n: examples.
        measured: the 95 % interval as `eval` measured it, in points; None for an estimate.
    """

    points: float
    error: float
    n: int
    measured: tuple[float, float] | None = None

    @staticmethod
    def of_comparison(delta: float, interval: Sequence[float], n: int) -> Drop:
        """Return the drop of an entry of `eval`: the paired difference (a share from -1 to 1) and its 95 % interval."""
        low, high = interval
        return Drop(-100 * delta, max(100 * (high - low) / (2 * Z95), 50 / n), n, (-100 * high, -100 * low))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval in points: as it was measured, or from the error."""
        return self.measured or (self.points - Z95 * self.error, self.points + Z95 * self.error)

    def probability(self, limit: float) -> float:
        """Return the probability that the true drop is at most `limit` points."""
        return NORMAL.cdf((limit - self.points) / self.error)

    def within(self, limit: float, confidence: float | None = None) -> bool:
        """Return whether the drop is within a limit: by its estimate, or with this probability."""
        return self.points <= limit + 1e-9 if confidence is None else self.probability(limit) >= confidence

    def at(self, probability: float) -> Drop:
        """Return the drop moved to the points that it does not exceed with this probability."""
        return Drop(self.points + NORMAL.inv_cdf(probability) * self.error, self.error, self.n)

    def describe(self) -> str:
        """Return the drop in words; see `describe_points`."""
        return describe_points(self.points, self.interval)


def examples_needed(drop: Drop, limit: float, confidence: float) -> int | None:
    """Return how many examples would show with this confidence that a drop of this size is within the limit.

    The standard error falls with the square root of n, so n' = n (z error / (limit - points))^2. None if the drop itself is not
    within the limit: no number of examples would show it.
    """
    margin = limit - drop.points
    if margin <= 0:
        return None
    return math.ceil(drop.n * (NORMAL.inv_cdf(confidence) * drop.error / margin) ** 2)


def flattery(error: float, choices: int) -> float:
    """Return by how many points the best of several equally good models looks better than it is (the winner's curse).

    This is the expected maximum of `choices` normal errors, by Blom's approximation (1958).
    """
    return error * NORMAL.inv_cdf((choices - 0.375) / (choices + 0.25)) if choices > 1 else 0.0


def expected_drop(pruned: Drop, share: float, added: float = 0.0) -> Drop:
    """Return the drop that is expected of a pruned model after training, before that is measured.

    Args:
        pruned: its drop before training, drawn towards its family (`along_family`).
        share: of that drop, which such a training leaves (`SearchCosts.recovered`).
        added: points that are lost in the final form.
    """
    left = share * max(pruned.points, 0.0)
    return Drop(left + added, math.hypot(SPREAD, share * pruned.error, DOUBT * left), pruned.n)


def combined(measured: Drop, expected: Drop | None) -> Drop:
    """Return the estimate of a drop from what was measured and what was expected, each weighted by its precision.

    It is the posterior of a normal prior. The best of many measurements looks better than it is; this estimate does not, as far as
    the expectation is right (empirical Bayes; Efron and Morris 1975).
    """
    if expected is None:
        return measured
    own = expected.error**2 / (expected.error**2 + measured.error**2)
    return Drop(own * measured.points + (1 - own) * expected.points, math.sqrt(own) * measured.error, measured.n)


def along_family(drops: Sequence[Drop], speedups: Sequence[float]) -> list[Drop]:
    """Return better estimates of the drops of pruned models of one family: each is drawn towards the family's curve.

    The curve is c (t - 1)^`BEND` at t times the speed of the unpruned model, which loses nothing; c is fitted by weighted least squares.
    True drops are taken to lie around it with the standard error hypot(`SPREAD`, `UNEVEN` x the curve). Fewer than three models show no
    curve.

    Args:
        drops: of the models, as they were measured.
        speedups: t of each, more than 1.
    """
    if len(drops) < 3:
        return list(drops)
    shape = [max(speedup - 1.0, 0.0) ** BEND for speedup in speedups]
    weights = [drop.error**-2 for drop in drops]
    norm = sum(weight * value**2 for weight, value in zip(weights, shape, strict=True))
    slope = sum(weight * value * drop.points for weight, value, drop in zip(weights, shape, drops, strict=True)) / norm
    result: list[Drop] = []
    for drop, value in zip(drops, shape, strict=True):
        curve = max(slope, 0.0) * value
        result.append(combined(drop, Drop(curve, math.hypot(SPREAD, UNEVEN * curve, value / math.sqrt(norm)), drop.n)))
    return result
