"""The last refit of an embedder: a linear map from its vectors to the dense model's, by least squares.

Pruning moves all vectors in much the same way, which a matrix undoes: it becomes a dense layer behind the pooling, which costs one row of
a matmul for each text. The other refits fit tokens; this one fits what the index holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from compress.data.encoded import Encoded
from compress.distill.teacher_outputs import TeacherOutputs
from compress.editing.least_squares import split_held_out
from compress.models.device import to_tensors
from compress.models.embedder import ensure_dense, head_of, last_dense
from compress.models.types import TransformersModel

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # of the mean square of the vectors' dimensions, towards the identity


@dataclass
class VectorPairs:
    """Vectors of texts by the pruned and by the dense model, (n, size) each."""

    pruned: torch.Tensor
    dense: torch.Tensor

    def loss(self, matrix: torch.Tensor, normalized: bool) -> float:
        """Return the mean of |x M - t|^2 over that of |t|^2; `normalized`: x M is scaled to length one."""
        mapped = self.pruned @ matrix
        mapped = functional.normalize(mapped, dim=1) if normalized else mapped
        return float((mapped - self.dense).square().sum() / self.dense.square().sum())


def fit_map(fitted: VectorPairs, selecting: VectorPairs, normalized: bool) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the matrix M, (size, size), that minimises `|x M - t|^2 + r |M - 1|^2`, with the ridge that is best on held-out texts.

    Args:
        fitted: vectors to fit.
        selecting: held-out vectors; the identity stays if no M is better on them.
        normalized: whether mapped vectors are scaled to length one.

    Returns:
        M, and the loss on held-out texts `before` and `after`.
    """
    pruned, dense = fitted.pruned.double(), fitted.dense.double()
    gram, identity = pruned.T @ pruned, torch.eye(pruned.shape[1], dtype=torch.float64, device=pruned.device)
    best = identity.float()
    before = best_loss = selecting.loss(best, normalized)
    for ridge in RIDGES:
        penalty = ridge * gram.diagonal().mean() * identity
        matrix = torch.linalg.solve(gram + penalty, pruned.T @ dense + penalty).float()
        loss = selecting.loss(matrix, normalized)
        if loss < best_loss:
            best, best_loss = matrix, loss
    return best, {"before": before, "after": best_loss}


@torch.no_grad()
def refit_vector_map(
    model: TransformersModel, data: Encoded, batches: Sequence[np.ndarray], dense_outputs: TeacherOutputs, device: torch.device
) -> dict[str, float]:
    """Map an embedder's vectors to the dense model's, in place: by its last dense layer, or by a new one.

    Args:
        model: the pruned embedder, in evaluation mode.
        data: the calibration texts.
        batches: positions of its batches in random order, two at least; `split_held_out` of them select the fit.
        dense_outputs: the dense model's vectors of `data`.
        device: where to compute.

    Returns:
        The loss on held-out texts `before` and `after`; empty if the last dense layer has an activation.
    """
    dense = last_dense(model)
    if dense is not None and not isinstance(dense.activation, torch.nn.Identity):
        return {}
    model.to(device)
    pairs = [_pairs(model, data, positions, dense_outputs, device) for positions in batches]
    fitted, selecting = (_joined(part) for part in split_held_out(pairs))
    matrix, losses = fit_map(fitted, selecting, head_of(model.config).normalized)
    if losses["after"] < losses["before"]:
        linear = ensure_dense(model).linear
        linear.weight.copy_(matrix.T @ linear.weight)
        if linear.bias is not None:
            linear.bias.copy_(matrix.T @ linear.bias)
    return losses


def _pairs(
    model: TransformersModel, data: Encoded, positions: np.ndarray, dense_outputs: TeacherOutputs, device: torch.device
) -> VectorPairs:
    vectors = model(**to_tensors(data.batch(positions), model, device)).logits.float()
    return VectorPairs(vectors, dense_outputs.logits_batch(positions, vectors).to(device))


def _joined(parts: Sequence[VectorPairs]) -> VectorPairs:
    return VectorPairs(torch.cat([part.pruned for part in parts]), torch.cat([part.dense for part in parts]))
