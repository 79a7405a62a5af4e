"""Intervals of drops, shrinkage and the flattery of a choice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compress.search.estimates import BEND, DOUBT, SPREAD, Drop, along_family, combined, examples_needed, expected_drop, flattery


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


def test_the_drops_of_a_family_are_drawn_towards_its_curve() -> None:
    """The curve is c (t - 1)^1.5, and the unpruned model loses nothing: so the smallest size loses little, whatever its luck."""
    speedups = [2.2, 2.9, 3.75, 4.75, 6.0, 8.0]
    true = [0.3 * (speedup - 1) ** BEND for speedup in speedups]
    assert [drop.points for drop in along_family([Drop(points, 1.0, 872) for points in true], speedups)] == pytest.approx(true)
    unlucky = [Drop(points + (2.0 if number == 0 else 0.0), 1.0, 872) for number, points in enumerate(true)]
    better = along_family(unlucky, speedups)
    assert better[0].points < true[0] + 0.4
    assert better[0].error < 0.4
    assert better[-1].points == pytest.approx(true[-1], abs=0.1)


def test_luck_that_all_sizes_share_moves_the_small_ones_less_than_itself() -> None:
    speedups = [2.2, 2.9, 3.75, 4.75, 6.0, 8.0]
    shifted = [Drop(0.2 * (speedup - 1) ** BEND + 1.0, 1.0, 872) for speedup in speedups]
    assert along_family(shifted, speedups)[0].points < 0.2 * 1.2**BEND + 0.5


def test_a_family_never_gains_by_pruning() -> None:
    assert all(-0.5 < drop.points < 0.0 for drop in along_family([Drop(-1.0, 1.0, 872)] * 6, [2, 3, 4, 5, 6, 8]))


def test_two_sizes_show_no_curve() -> None:
    drops = [Drop(0.5, 1.0, 872), Drop(0.2, 1.0, 872)]
    assert along_family(drops, [2.0, 4.0]) == drops


def test_training_is_expected_to_leave_a_share_of_what_pruning_lost() -> None:
    expected = expected_drop(Drop(4.0, 1.0, 872), 0.25, added=0.2)
    assert expected.points == pytest.approx(1.2)
    assert expected.error == pytest.approx(math.sqrt(SPREAD**2 + 0.25**2 + (DOUBT * 1.0) ** 2))
    assert expected_drop(Drop(-1.0, 1.0, 872), 0.25).points == 0.0  # a pruned model is not better than the whole one, but by chance


def test_an_estimate_lies_between_what_was_measured_and_what_was_expected() -> None:
    estimate = combined(Drop(0.0, 0.8, 872), Drop(1.0, 0.4, 872))
    assert estimate.points == pytest.approx(0.8)  # by the precisions 1 and 4
    assert estimate.error == pytest.approx(0.8 / math.sqrt(5))
    measured = Drop(0.3, 0.8, 872)
    assert combined(measured, None) is measured


def test_exact_measurements_are_kept() -> None:
    drops = [Drop(2.0, 1e-4, 10), Drop(1.0, 1e-4, 10), Drop(1.5, 1e-4, 10)]
    assert [drop.points for drop in along_family(drops, [2.0, 3.0, 4.0])] == pytest.approx([2.0, 1.0, 1.5], abs=1e-3)


@pytest.mark.parametrize(("points", "text"), [(0.34, "0.34 points lost [-0.6, 1.3]"), (-0.34, "0.34 points gained [-0.6, 1.3]")])
def test_a_drop_in_words(points: float, text: str) -> None:
    assert Drop(points, 0.5, 872).describe() == text
