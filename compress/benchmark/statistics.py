"""Intervals and tests: pure, seeded functions over arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 2_000
CONFIDENCE = 0.95
Statistic = Callable[[np.ndarray], float]


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion (Wilson 1927), which holds near 0 and 1 too."""
    z = 1.959963984540054
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


def resampled_positions(n: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield bootstrap positions, (n,) each, drawn with replacement, one resample at a time to bound the memory."""
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        yield rng.integers(0, n, n)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the central 95 % of bootstrapped values."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_interval(statistic: Statistic, n: int, seed: int = 0) -> tuple[float, float]:
    """Return the percentile interval of `statistic(positions)` over resampled positions of n examples."""
    return percentile_interval(np.array([statistic(positions) for positions in resampled_positions(n, seed)]))


def mcnemar_p(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """Return the two-sided p value of McNemar's exact test on paired booleans, (n,) each.

    Only examples on which exactly one model is right count; under the null hypothesis each model is right on half of them.
    """
    from scipy.stats import binomtest

    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(~first_right & second_right))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def bootstrap_p(differences: np.ndarray) -> float:
    """Return the two-sided p value of a bootstrapped difference: twice the smaller share beyond zero."""
    smaller = min(np.mean(differences <= 0), np.mean(differences >= 0))
    return float(min(1.0, 2 * max(smaller, 1 / len(differences))))


def median_ratio(numerators: np.ndarray, denominators: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Return the median of round-by-round ratios and its bootstrap interval.

    Args:
        numerators: (rounds,) of the baseline.
        denominators: (rounds,) of the candidate, measured in the same rounds.
        seed: of the resampling.
    """
    ratios = numerators / denominators
    positions = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[positions], axis=1)
    return float(np.median(ratios)), percentile_interval(medians)


def geometric_ratio(
    numerators: Sequence[np.ndarray], denominators: Sequence[np.ndarray], seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Return the geometric mean over several measurements of `median_ratio`, and its bootstrap interval.

    Args:
        numerators: for each measurement, (rounds,) of the baseline.
        denominators: for each, (rounds,) of the candidate in the same rounds.
        seed: of the resampling; the rounds of each measurement are resampled separately.
    """
    logs = [np.log(top / bottom) for top, bottom in zip(numerators, denominators, strict=True)]
    rng = np.random.default_rng(seed)
    medians = [np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1) for values in logs]
    low, high = percentile_interval(np.mean(medians, axis=0))
    return float(np.exp(np.mean([np.median(values) for values in logs]))), (float(np.exp(low)), float(np.exp(high)))
