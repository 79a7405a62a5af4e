"""Refit a linear by regularised least squares; a held-out part of the data decides whether the new weights are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from compress.models.biases import bias_or_zeros, require_bias
from compress.models.low_rank import FactoredLinear

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # candidates, relative to the inputs' mean square
HELD_OUT = 5  # every fifth batch is held out of the fit
FLOOR = 1e-12  # of the inputs' mean square
INTERCEPT_RIDGE = 1e-9  # per row: numerical only, the intercept is free
Part = TypeVar("Part")


def shuffle_batches(batches: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Return batches of similar lengths in random order, so that every `HELD_OUT`-th is a fair sample; a single one is split in two."""
    parts = list(batches) if len(batches) > 1 else [part for part in np.array_split(batches[0], 2) if len(part)]
    return [parts[number] for number in np.random.default_rng(seed).permutation(len(parts))]


def split_held_out(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Return the parts to fit on, and every `HELD_OUT`-th part, which is held out; a single part is in both."""
    if len(parts) == 1:
        return list(parts), list(parts)
    return [part for number, part in enumerate(parts) if number % HELD_OUT], list(parts[::HELD_OUT])


class NormalEquations:
    """Sums that determine a linear least-squares fit and its error: inputs X (n, k) with a column of ones, targets Y (n, d).

    They are kept in float64 on the device of the rows.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device | None = None) -> None:
        self.xx = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64, device=device)
        self.xy = torch.zeros(inputs + 1, outputs, dtype=torch.float64, device=device)
        self.yy = 0.0
        self.count = 0

    def add(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add rows: inputs (n, k), targets (n, d)."""
        rows = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
        self.xx += (rows.T @ rows).double()
        self.xy += (rows.T @ targets).double()
        self.yy += float(targets.double().square().sum())
        self.count += len(inputs)

    def error(self, solution: torch.Tensor) -> float:
        """Return the mean squared error of Y ~ [X 1] solution, with solution (k + 1, d)."""
        fitted = (solution * (self.xx @ solution)).sum() - 2 * (solution * self.xy).sum()
        return (float(fitted) + self.yy) / max(1, self.count)

    def solve(self, prior: torch.Tensor, ridge: float, intercept: bool = True) -> torch.Tensor:
        """Return argmin_S |[X 1] S - Y|^2 + r |S - prior|^2 with a free intercept, (k + 1, d), or with that of the prior.

        `r` is `ridge` times the mean square of the inputs, so that one value suits inputs of any scale.
        """
        size = len(self.xx) - 1
        penalty = self.xx.new_zeros(size + 1)
        if size:
            penalty[:size] = ridge * self.xx.diagonal()[:size].mean().clamp_min(FLOOR)
        penalty[size] = INTERCEPT_RIDGE * max(1, self.count)
        left, right = self.xx + torch.diag(penalty), self.xy + penalty.unsqueeze(1) * prior
        if not intercept:
            rest = right[:size] - left[:size, size:] @ prior[size:]
            return torch.cat([_solved(left[:size, :size], rest), prior[size:]])
        return _solved(left, right)


def _solved(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solve a positive semidefinite system."""
    factor, failed = torch.linalg.cholesky_ex(left)
    if not failed:
        return torch.cholesky_solve(right, factor)
    return torch.linalg.lstsq(left.cpu(), right.cpu()).solution.to(right.device)  # on a GPU, lstsq needs full rank


class HeldOutFit:
    """The normal equations of a linear on the fitted and on the held-out batches.

    Args:
        linear: whose weight and bias are to be fitted.
        intercept: fit the bias of a linear without one, too.
    """

    def __init__(self, linear: nn.Linear, intercept: bool = True) -> None:
        self.linear, self.intercept = linear, intercept or linear.bias is not None
        sizes = linear.in_features, linear.out_features, linear.weight.device
        self.fitted, self.held_out = NormalEquations(*sizes), NormalEquations(*sizes)

    def add(self, number: int, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add the rows of batch `number`: inputs (n, in), target outputs (n, out)."""
        part = self.fitted if number % HELD_OUT else self.held_out
        part.add(inputs.float(), targets.float())

    def refit(self) -> tuple[float, float]:
        """Fit the linear in place; see `fit_linear`."""
        return fit_linear(self.linear, self.fitted, self.held_out, self.intercept)


def fitted_part(linear: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Return the matrix that is fitted, and what precedes it: of a factorized linear, the first and the second factor."""
    if isinstance(linear, FactoredLinear):
        return linear.down, linear.up
    assert isinstance(linear, nn.Linear)  # noqa: S101 (there is no other kind)
    return nn.Identity(), linear


def fit_linear(linear: nn.Linear, fitted: NormalEquations, held_out: NormalEquations, intercept: bool = True) -> tuple[float, float]:
    """Fit a linear's weight and bias, in place; keep the old ones if no fit is better on the held-out rows.

    A linear without a bias gets one, unless it is kept or there is no `intercept`.

    Returns:
        The held-out mean squared error before and after.
    """
    old = torch.cat([linear.weight.detach().T, bias_or_zeros(linear).detach().unsqueeze(0)]).double()
    before = held_out.error(old)
    best, best_error = old, before
    for ridge in RIDGES:
        candidate = fitted.solve(old, ridge, intercept)
        error = held_out.error(candidate)
        if error < best_error:
            best, best_error = candidate, error
    if linear.bias is None and best is old:
        return before, best_error
    with torch.no_grad():
        linear.weight.copy_(best[:-1].T.float())
        if intercept:
            require_bias(linear).copy_(best[-1].float())
    return before, best_error
