"""How far a measured drop can be trusted: intervals, shrinkage towards what similar models lost, and the flattery of a choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from compress.report.search_words import describe_points

NORMAL = NormalDist()
Z95 = NORMAL.inv_cdf(0.975)
SPREAD = 0.5  # points: standard deviation of a model's true drop around the curve of its family


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


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the non-decreasing sequence nearest to `values` by weighted squares (pool adjacent violators; Barlow et al. 1972)."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, first_weight, first_length), (second, second_weight, second_length) = blocks[-2:]
            total = first_weight + second_weight
            blocks[-2:] = [((first * first_weight + second * second_weight) / total, total, first_length + second_length)]
    return [mean for mean, _, length in blocks for _ in range(length)]


def shrunken(drops: Sequence[Drop], gains: Sequence[float]) -> list[Drop]:
    """Return better estimates of the drops of models of one family: each is drawn towards the family's curve.

    Models that gain more lose more, up to noise. The curve is the isotonic regression of the drops on `gains`. A drop's own measurement
    counts by its precision against the spread of true drops around the curve, which is `SPREAD` (empirical Bayes; Efron and Morris 1975).

    Args:
        drops: of the models.
        gains: speedups, or any number that grows with what a model was reduced by.
    """
    order = sorted(range(len(drops)), key=lambda number: gains[number])
    fitted = isotonic([drops[number].points for number in order], [drops[number].error ** -2 for number in order])
    result = list(drops)
    for number, curve in zip(order, fitted, strict=True):
        drop = drops[number]
        own = SPREAD**2 / (SPREAD**2 + drop.error**2)
        result[number] = Drop(own * drop.points + (1 - own) * curve, drop.error, drop.n)
    return result
