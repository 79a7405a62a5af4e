"""Other losses of hidden states than their squared error: Gram matrices, first tokens, CKA; and CoFi's assignment of layers.

Examples without real tokens (the whole mask is 0) are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from compress.distill.losses import EPSILON


def mean_over_examples(each: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of one value per example, (batch,), over the examples with a real token; 0 if there are none."""
    counts = attention_mask.any(dim=1).float()
    return (each * counts).sum() / counts.sum().clamp_min(1)


def gram_mse(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of the Gram matrices HH' / d of an example's states; widths may differ.

    Mean over the pairs of real tokens of each example, then over examples.

    Args:
        student: (batch, tokens, student width).
        teacher: (batch, tokens, teacher width).
        attention_mask: (batch, tokens), 1 for real tokens.
    """
    mask = attention_mask.unsqueeze(-1).float()
    first, second = (states.float() * mask for states in (student, teacher))
    difference = first @ first.transpose(1, 2) / first.shape[-1] - second @ second.transpose(1, 2) / second.shape[-1]
    pairs = attention_mask.sum(1).float().square().clamp_min(1)
    return mean_over_examples(difference.square().sum((1, 2)) / pairs, attention_mask)


def pkd_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Patient distillation (Sun et al. 2019, arXiv 1908.09355), eq. 7: squared error of the first tokens' states, normalised to length one.

    Mean over examples and dimensions.

    Args:
        student: (batch, width), already projected to the teacher's width if they differ.
        teacher: (batch, width).
    """
    return functional.mse_loss(functional.normalize(student.float(), dim=-1), functional.normalize(teacher.float(), dim=-1))


def cka_distance(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """One minus linear CKA (Kornblith et al. 2019, arXiv 1905.00414): 1 - |X'Y|^2 / (|X'X| |Y'Y|), Frobenius, columns centred.

    X and Y are the states of all real tokens of the batch. Rotating or scaling either does not change the loss; widths may differ.

    Args:
        student: (batch, tokens, student width).
        teacher: (batch, tokens, teacher width).
        attention_mask: (batch, tokens), 1 for real tokens.
    """
    real = attention_mask.bool()
    if int(real.sum()) < 2:
        return 0 * student.sum()
    x, y = (states[real].float() for states in (student, teacher))
    x, y = x - x.mean(0), y - y.mean(0)
    cross = (x.T @ y).square().sum()
    return 1 - cross / ((x.T @ x).norm() * (y.T @ y).norm()).clamp_min(EPSILON)


def ordered_assignment(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return the column of each row such that columns never decrease and the total cost is minimal (CoFi, Xia et al. 2022, section 3.2).

    Args:
        costs: (teacher layers, student layers), the distance between the states after them.

    >>> ordered_assignment([[5.0, 1.0], [0.0, 2.0]])
    [1, 1]
    """
    columns = range(len(costs[0]))
    best: list[tuple[float, list[int]]] = [(cost, [column]) for column, cost in enumerate(costs[0])]
    for row in costs[1:]:
        so_far = [min(best[: column + 1], key=lambda path: path[0]) for column in columns]
        best = [(total + row[column], [*path, column]) for column, (total, path) in enumerate(so_far)]
    return min(best, key=lambda path: path[0])[1]
