"""Weighted SVD: the best low-rank approximation of a linear for its inputs, and for the use of its outputs."""

from __future__ import annotations

import numpy as np
import torch

from compress.factorize.statistics import Statistics

RIDGE = 1e-3  # of the mean diagonal, added to the inputs' and the outputs' matrices: a direction never seen is not free
LARGEST_RIDGE = 1e30


class WeightedSvd:
    """A decomposition of a linear's weight W (out, in) that minimises `tr(G (W - W_r) H (W - W_r)')` for every rank r.

    With H = S S' the inputs' second moments about their mean, G = R R' the outputs' Fisher information (or the identity), and
    the singular values R' W S = U s V', the best matrix of rank r is `W_r = R'^-1 U_r s_r V_r' S^-1`, and its error
    is the sum of the remaining squares of s (Eckart and Young 1936; Hsu et al. 2022, arXiv 2207.00112, with full matrices instead
    of diagonals). Without statistics it is the plain SVD.

    Args:
        weight: (out, in).
        statistics: of the inputs, and of the outputs if these are weighted.
    """

    def __init__(self, weight: torch.Tensor, statistics: Statistics | None = None) -> None:
        weight = weight.detach().double().cpu()
        self._weight, self._mean = weight, None if statistics is None else statistics.mean
        self._right = None if statistics is None else _root(statistics.centred())
        self._left = None if statistics is None or statistics.outputs is None else _root(statistics.outputs.double())
        transformed = weight if self._right is None else weight @ self._right
        transformed = transformed if self._left is None else self._left.T @ transformed
        self._u, self.singular, self._vt = torch.linalg.svd(transformed, full_matrices=False)

    @property
    def losses(self) -> np.ndarray:
        """Half of the error of each rank, from rank 0 to the full one: (ranks + 1,) float64."""
        squares = self.singular.square().numpy()
        return 0.5 * np.append(np.cumsum(squares[::-1])[::-1], 0.0)

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return U (out, rank), V (rank, in) with W_r = U V, and the change of the bias (out,), (W - W_r) E[x]. All float64."""
        root = self.singular[:rank].sqrt()
        up, down = self._u[:, :rank] * root, root.unsqueeze(1) * self._vt[:rank]
        if self._left is not None:
            up = torch.linalg.solve_triangular(self._left.T, up, upper=True)
        if self._right is not None:
            down = torch.linalg.solve_triangular(self._right, down, upper=False, left=False)
        if self._mean is None:
            return up, down, torch.zeros(len(up), dtype=torch.float64)
        return up, down, self._weight @ self._mean - up @ (down @ self._mean)


def _root(moments: torch.Tensor) -> torch.Tensor:
    """Return the lower Cholesky factor of a symmetric matrix with a small ridge, or a larger one if rounding requires it."""
    identity = torch.eye(len(moments), dtype=moments.dtype)
    ridge = RIDGE * float(moments.diagonal().mean().clamp_min(1e-30))
    factor, failed = torch.linalg.cholesky_ex(moments + ridge * identity)
    while failed and ridge < LARGEST_RIDGE:
        ridge *= 10
        factor, failed = torch.linalg.cholesky_ex(moments + ridge * identity)
    return factor


def factored_table(table: torch.Tensor, counts: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return A (rows, rank), P (width, rank) and a bias b (width,) with `table ~ A P' + b`, errors weighted by counts.

    Minimises `sum_v c_v |E_v - b - P a_v|^2`: b is the weighted mean, P the first right singular vectors of the weighted
    rows about it. Every row, counted or not, gets its best approximation within P.

    Args:
        table: token embeddings (rows, width).
        counts: how often each row is used, (rows,), positive.
        rank: columns of A.
    """
    rows, weights = table.detach().double().cpu(), counts.double()
    bias = (weights @ rows) / weights.sum()
    centred = rows - bias
    moments = centred.T @ (centred * weights.unsqueeze(1))  # (width, width)
    project = torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :rank]
    return centred @ project, project, bias
