"""Least-squares fits against closed forms, and the held-out rows that decide on them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from compress.editing.least_squares import HeldOutFit, NormalEquations, fit_linear, shuffle_batches, split_held_out


def equations_of(inputs: torch.Tensor, targets: torch.Tensor) -> NormalEquations:
    """Return the sums over rows, added in two parts."""
    equations = NormalEquations(inputs.shape[1], targets.shape[1])
    equations.add(inputs[:30], targets[:30])
    equations.add(inputs[30:], targets[30:])
    return equations


def test_the_fit_is_that_of_least_squares_with_an_intercept() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(100, 5), torch.randn(100, 3)
    old = torch.zeros(6, 3, dtype=torch.float64)
    solution = equations_of(inputs, targets).solve(old, 1e-10)
    rows = torch.cat([inputs, torch.ones(100, 1)], dim=1).double()
    torch.testing.assert_close(solution, torch.linalg.lstsq(rows, targets.double()).solution, rtol=1e-4, atol=1e-5)


def test_a_strong_ridge_keeps_the_old_weights() -> None:
    torch.manual_seed(0)
    inputs, targets, old = torch.randn(100, 5), torch.randn(100, 3), torch.randn(6, 3).double()
    solution = equations_of(inputs, targets).solve(old, 1e9)
    torch.testing.assert_close(solution[:-1], old[:-1], rtol=1e-4, atol=1e-4)  # and the intercept is free


def test_the_error_is_the_mean_square_over_rows() -> None:
    torch.manual_seed(0)
    inputs, targets, solution = torch.randn(100, 5), torch.randn(100, 3), torch.randn(6, 3).double()
    rows = torch.cat([inputs, torch.ones(100, 1)], dim=1).double()
    expected = (rows @ solution - targets.double()).square().sum(1).mean()
    assert equations_of(inputs, targets).error(solution) == pytest.approx(float(expected), rel=1e-5)


def test_a_fit_that_is_no_better_on_held_out_rows_is_refused() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3)
    before = copy.deepcopy(linear.state_dict())
    inputs = torch.randn(100, 5)
    held_out = equations_of(inputs, linear(inputs).detach())  # the old weights are right
    errors = fit_linear(linear, equations_of(inputs, torch.randn(100, 3)), held_out)
    assert errors == pytest.approx((0, 0), abs=1e-5)  # rounding of the sums
    torch.testing.assert_close(linear.state_dict(), before, rtol=1e-3, atol=1e-3)


def test_a_linear_is_fitted_to_its_targets() -> None:
    torch.manual_seed(0)
    linear, teacher = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    fit = HeldOutFit(linear)
    for number in range(10):
        inputs = torch.randn(40, 5)
        fit.add(number, inputs, teacher(inputs).detach())
    before, after = fit.refit()
    assert after < 1e-6 < before
    torch.testing.assert_close(linear.state_dict(), teacher.state_dict(), rtol=1e-2, atol=1e-2)


def test_every_fifth_batch_is_held_out() -> None:
    assert split_held_out(range(7)) == ([1, 2, 3, 4, 6], [0, 5])
    assert split_held_out(["only"]) == (["only"], ["only"])
    fit = HeldOutFit(torch.nn.Linear(2, 1))
    for number in range(7):
        fit.add(number, torch.ones(1, 2), torch.ones(1, 1))
    assert (fit.fitted.count, fit.held_out.count) == (5, 2)


def test_shuffled_batches_are_the_same_batches() -> None:
    batches = [np.array([0, 1]), np.array([2]), np.array([3, 4])]
    shuffled = shuffle_batches(batches, 0)
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, batches))
    assert list(map(tuple, shuffled)) == list(map(tuple, shuffle_batches(batches, 0)))
    assert [part.tolist() for part in sorted(shuffle_batches([np.arange(3)], 0), key=len)] == [[2], [0, 1]]
