"""Intervals and tests against published and hand-worked values."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.benchmark import statistics
from compress.benchmark.statistics import (
    RESAMPLES,
    bootstrap_interval,
    bootstrap_p,
    geometric_ratio,
    mcnemar_p,
    median_ratio,
    percentile_interval,
    resampled_positions,
    wilson_interval,
)

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0000),
    ],
)
def test_wilson_against_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(COUNTS)
def test_wilson_against_scipy(counts: tuple[int, int]) -> None:
    expected = scipy.stats.binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert wilson_interval(*counts) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(COUNTS)
def test_wilson_holds_the_share_within_zero_and_one(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    share = counts[0] / counts[1]
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert low < high


def table(only_first: int, only_second: int, both: int = 5, neither: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return paired booleans with these counts."""
    first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
    second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
    return np.array(first), np.array(second)


def exact(only_first: int, only_second: int) -> float:
    """Return McNemar's exact p value by counting coin tosses."""
    n, k = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * sum(comb(n, i) for i in range(k + 1)) / 2**n)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"), [(10, 2, 158 / 4096), (2, 10, 158 / 4096), (1, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 64), (0, 0, 1.0)]
)
def test_mcnemar_by_hand(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar_p(*table(only_first, only_second)) == pytest.approx(p)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_counts_only_disagreements(only_first: int, only_second: int, both: int) -> None:
    found = mcnemar_p(*table(only_first, only_second, both))
    assert found == pytest.approx(exact(only_first, only_second))
    assert found == pytest.approx(mcnemar_p(*table(only_second, only_first, 1, both)))


def test_bootstrap_positions_are_seeded_and_in_range() -> None:
    first = np.array(list(resampled_positions(7)))
    assert first.shape == (RESAMPLES, 7)
    assert set(np.unique(first)) == set(range(7))
    assert np.array_equal(first, list(resampled_positions(7)))
    assert not np.array_equal(first, list(resampled_positions(7, seed=1)))


def test_percentile_interval_by_hand() -> None:
    assert percentile_interval(np.arange(1001)) == pytest.approx((25, 975))


def test_bootstrap_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_interval(lambda positions: float(values[positions].mean()), 400)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_bootstrap_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    positions = np.array(list(resampled_positions(50)))
    for _ in range(200):
        values = rng.normal(1, 1, 50)
        low, high = percentile_interval(values[positions].mean(axis=1))
        covered += low <= 1 <= high
    assert 0.89 <= covered / 200 <= 0.985


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        (np.linspace(-1, 1, 2001), 1.0),
        (np.concatenate([-np.ones(10), np.ones(990)]), 0.02),
        (np.concatenate([-np.ones(990), np.ones(10)]), 0.02),
        (np.zeros(100), 1.0),
        (np.ones(100), 0.02),  # never below what the resamples can tell
        (-np.ones(1000), 0.002),
    ],
)
def test_bootstrap_p_by_hand(differences: np.ndarray, p: float) -> None:
    assert bootstrap_p(differences) == pytest.approx(p, rel=1e-3)


def test_median_ratio_of_a_constant_factor_is_exact_however_the_machine_drifts() -> None:
    drift = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.3, 60)))
    ratio, interval = median_ratio(3 * drift, drift)
    assert ratio == pytest.approx(3)
    assert interval == pytest.approx((3, 3))


def test_median_ratio_shrugs_off_outliers() -> None:
    slow, fast = np.full(41, 2.0), np.ones(41)
    slow[:5], fast[7:12] = 100, 50
    ratio, (low, high) = median_ratio(slow, fast)
    assert (ratio, low, high) == (2, 2, 2)


def test_median_ratio_covers_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 300)
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        base = rng.lognormal(0, 0.5, 40)
        _, (low, high) = median_ratio(1.5 * base * rng.lognormal(0, 0.1, 40), base, seed)
        covered += low <= 1.5 <= high
    assert covered >= 88


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=5, max_size=40))
def test_median_ratio_lies_in_its_interval(rounds: list[tuple[float, float]]) -> None:
    ratio, (low, high) = median_ratio(*np.array(rounds).T)
    assert low <= ratio <= high


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=4))
def test_the_geometric_ratio_of_steady_times_is_exact(ratios: list[float]) -> None:
    noise = np.random.default_rng(0).random(15) + 0.5
    ratio, (low, high) = geometric_ratio([noise * ratio for ratio in ratios], [noise] * len(ratios))
    assert ratio == pytest.approx(np.exp(np.mean(np.log(ratios))))
    assert low == pytest.approx(ratio)
    assert high == pytest.approx(ratio)
