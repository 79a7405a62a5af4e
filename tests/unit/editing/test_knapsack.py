"""The multiple-choice knapsack against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.editing.knapsack import knapsack


@st.composite
def knapsacks(draw: st.DrawFn) -> tuple[list[tuple[np.ndarray, np.ndarray]], float]:
    """Draw up to four groups of up to four options with whole costs, and a budget."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups = [
        (rng.exponential(size=size), rng.integers(0, 20, size).astype(float))
        for size in draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    ]
    return groups, float(draw(st.integers(0, 60)))


@given(knapsacks())
def test_dynamic_programming_is_brute_force(problem: tuple[list[tuple[np.ndarray, np.ndarray]], float]) -> None:
    groups, budget = problem
    losses = [
        sum(group[0][option] for group, option in zip(groups, options, strict=True))
        for options in itertools.product(*(range(len(group[0])) for group in groups))
        if sum(group[1][option] for group, option in zip(groups, options, strict=True)) <= budget
    ]
    # With as many cells as units of cost there is nothing to round.
    result = knapsack(groups, budget, cells=max(1, int(budget)))
    if not losses:
        assert result is None
        return
    assert result is not None
    assert result[0] == pytest.approx(min(losses))
    assert sum(group[0][option] for group, option in zip(groups, result[1], strict=True)) == pytest.approx(result[0])
    assert sum(group[1][option] for group, option in zip(groups, result[1], strict=True)) <= budget


def test_a_budget_of_zero_takes_free_options() -> None:
    groups = [(np.array([1.0, 2.0]), np.array([3.0, 0.0]))]
    assert knapsack(groups, 0.0) == (2.0, [1])
    assert knapsack([(np.array([1.0]), np.array([3.0]))], 0.0) is None
    assert knapsack(groups, -1.0) is None
