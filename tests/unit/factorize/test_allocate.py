"""Ranks within a budget: never over it, and as good as trying every choice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import UsageError
from compress.factorize.allocate import CELLS, WHOLE, allocate, break_even, fixed_ranks, ranks_for, weight_budget, weights_of
from compress.models.shape import LayerShape, Shape

Problem = tuple[list[tuple[int, int]], list[np.ndarray], int]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Linears of a few small sizes, falling losses, and a budget between nothing and everything."""
    sizes = draw(st.lists(st.tuples(st.integers(3, 7), st.integers(3, 7)), min_size=1, max_size=4))
    losses = []
    for size in sizes:
        squares = sorted(draw(st.lists(st.floats(0, 10), min_size=min(size), max_size=min(size))))
        losses.append(np.append(np.cumsum(squares)[::-1], 0.0))
    whole = sum(weights_of(size, WHOLE) for size in sizes)
    return sizes, losses, draw(st.integers(1, whole + 5))


@given(problems())
def test_as_good_as_brute_force(problem: Problem) -> None:
    sizes, losses, budget = problem
    assert budget <= CELLS

    def loss(ranks: tuple[int, ...] | list[int]) -> float:
        return sum(float(each[rank]) if rank else 0.0 for each, rank in zip(losses, ranks, strict=True))

    def weights(ranks: tuple[int, ...] | list[int]) -> int:
        return sum(weights_of(size, rank) for size, rank in zip(sizes, ranks, strict=True))

    def brute(limit: float) -> float | None:
        return min((loss(ranks) for ranks in itertools.product(*map(ranks_for, sizes)) if weights(ranks) <= limit), default=None)

    best, safe = brute(budget), brute(budget * (1 - len(sizes) / CELLS))
    if best is None:
        with pytest.raises(UsageError, match="not even the lowest ranks"):
            allocate(sizes, losses, budget)
        return
    if safe is None:
        return  # fits but for the grid
    found = allocate(sizes, losses, budget)
    assert weights(found) <= budget
    assert best - 1e-9 <= loss(found) <= safe + 1e-9


@given(st.integers(1, 300), st.integers(1, 300))
def test_factors_are_smaller_up_to_break_even(inputs: int, outputs: int) -> None:
    rank = break_even((inputs, outputs))
    assert weights_of((inputs, outputs), rank) < inputs * outputs or rank == 0
    assert weights_of((inputs, outputs), rank + 1) >= inputs * outputs
    assert all(0 < each <= rank for each in ranks_for((inputs, outputs))[:-1])
    assert ranks_for((inputs, outputs))[-1] == WHOLE


def test_what_is_worth_nothing_is_left_out_first() -> None:
    losses = [np.array([9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), np.linspace(9, 0, 7)]
    assert allocate([(6, 6), (6, 6)], losses, 48) == [1, WHOLE]


def test_one_rank_or_one_share_for_all() -> None:
    sizes = [(32, 32), (32, 64), (32, 8)]
    assert fixed_ranks(sizes, 12, None) == [12, 12, WHOLE]
    assert fixed_ranks(sizes, None, 0.5) == [8, 10, 3]
    with pytest.raises(UsageError, match="at rank 30 no linear") as caught:
        fixed_ranks(sizes, 30, None)
    assert "--rank 21" in str(caught.value.hint)


@pytest.mark.parametrize("seq_len", [1, 20])
def test_the_budget_is_what_a_share_leaves_to_the_linears(seq_len: int) -> None:
    """A shape of just the budget's weights costs the share that was asked for, whatever else it has."""
    before = Shape(32, 8, (LayerShape(4, 64), LayerShape(2, 16)))
    others = Shape(32, 8, before.layers, embedding=(4, 32))
    weights = sum(inputs * outputs for layer in before.layers for inputs, outputs in before.linear_sizes(layer).values())
    flops = weight_budget(before, others, 0.75, None, seq_len)
    assert others.flops(seq_len) - 2 * seq_len * (weights - flops) == pytest.approx(0.75 * before.flops(seq_len), abs=2 * seq_len)
    params = weight_budget(before, others, None, 0.75, seq_len)
    assert others.params() - (weights - params) == pytest.approx(0.75 * before.params(), abs=1)
