"""Intervals of drops, shrinkage and the flattery of a choice."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.search.estimates import SPREAD, Drop, examples_needed, flattery, isotonic, shrunken


def test_a_comparison_becomes_a_drop_in_points() -> None:
    drop = Drop.of_comparison(-0.01, [-0.025, 0.005], 872)
    assert drop.points == pytest.approx(1.0)
    assert drop.interval == pytest.approx((-0.5, 2.5), abs=0.01)


def test_identical_answers_leave_an_error_of_half_an_example() -> None:
    assert Drop.of_comparison(0.0, [0.0, 0.0], 100).error == 0.5


def test_probability_and_confidence() -> None:
    drop = Drop(1.0, 0.5, 872)
    assert drop.probability(1.0) == pytest.approx(0.5)
    assert drop.probability(1.5) == pytest.approx(0.841, abs=1e-3)
    assert drop.within(1.0)
    assert not drop.within(1.0, 0.9)
    assert drop.within(1.7, 0.9)


def test_the_examples_that_a_confidence_takes_show_it() -> None:
    drop = Drop(0.5, 0.7, 872)
    needed = examples_needed(drop, 1.0, 0.9)
    assert needed is not None
    shown = Drop(0.5, 0.7 * math.sqrt(872 / needed), needed)
    assert shown.probability(1.0) == pytest.approx(0.9, abs=1e-3)
    assert examples_needed(Drop(1.2, 0.7, 872), 1.0, 0.9) is None


@pytest.mark.parametrize("choices", [2, 5, 20])
def test_flattery_is_the_expected_best_of_equal_models(choices: int) -> None:
    draws = np.random.default_rng(0).standard_normal((20_000, choices)).max(axis=1).mean()
    assert flattery(0.7, choices) == pytest.approx(0.7 * draws, rel=0.04)
    assert flattery(0.7, 1) == 0.0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.lists(st.floats(0.1, 3), min_size=8, max_size=8))
def test_isotonic_regression_rises_and_keeps_the_mean(values: list[float], weights: list[float]) -> None:
    weights = weights[: len(values)]
    fitted = isotonic(values, weights)
    assert all(first <= second + 1e-9 for first, second in itertools.pairwise(fitted))
    assert np.average(fitted, weights=weights) == pytest.approx(np.average(values, weights=weights), abs=1e-6)


def test_isotonic_regression_agrees_with_scikit_learn() -> None:
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(1)
    values, weights = rng.standard_normal(12), rng.uniform(0.2, 2, 12)
    expected = IsotonicRegression().fit_transform(np.arange(12), values, sample_weight=weights)
    assert isotonic(values.tolist(), weights.tolist()) == pytest.approx(expected.tolist())


def test_a_lucky_model_is_drawn_towards_its_family() -> None:
    drops = [Drop(0.2, 0.7, 872), Drop(1.4, 0.7, 872), Drop(0.1, 0.7, 872)]  # the largest looks as good as the smallest
    better = shrunken(drops, [2.0, 4.0, 6.0])
    own = SPREAD**2 / (SPREAD**2 + 0.7**2)
    assert better[2].points == pytest.approx(own * 0.1 + (1 - own) * 0.75)
    assert better[2].points > drops[2].points


def test_exact_measurements_are_kept() -> None:
    drops = [Drop(2.0, 1e-4, 10), Drop(1.0, 1e-4, 10)]
    assert [drop.points for drop in shrunken(drops, [1.0, 2.0])] == pytest.approx([2.0, 1.0], abs=1e-3)


@pytest.mark.parametrize(("points", "text"), [(0.34, "0.34 points lost [-0.6, 1.3]"), (-0.34, "0.34 points gained [-0.6, 1.3]")])
def test_a_drop_in_words(points: float, text: str) -> None:
    assert Drop(points, 0.5, 872).describe() == text
