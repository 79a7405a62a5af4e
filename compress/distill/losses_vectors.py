"""Losses of a student's vectors or relevance scores against its teacher's: pure functions, without labels."""

from __future__ import annotations

import torch
from torch.nn import functional

from compress.training.ranking_losses import TEMPERATURE, cosine_matrix


def similarity_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Return the divergence of two distributions over the other texts of the batch: mean over texts of KL(teacher || student).

    The distribution of text i is the softmax over j != i of cos(i, j) / temperature (SEED, Fang et al. 2021, arXiv 2101.04731,
    with the batch as its queue). Widths may differ.

    Args:
        student: vectors, (batch, size), two or more.
        teacher: vectors, (batch, size of the teacher).
        temperature: of both distributions.
    """
    if len(student) < 2:
        return 0 * student.sum()
    others = ~torch.eye(len(student), dtype=torch.bool, device=student.device)

    def log_probabilities(vectors: torch.Tensor) -> torch.Tensor:
        cosines = cosine_matrix(vectors, vectors)[others].view(len(vectors), -1)  # (batch, batch - 1)
        return functional.log_softmax(cosines / temperature, dim=-1)

    return functional.kl_div(log_probabilities(student), log_probabilities(teacher), log_target=True, reduction="batchmean")


def margin_mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """MarginMSE (Hofstätter et al. 2020, arXiv 2010.02666) over all pairs of candidates of a query.

    Mean over the pairs of ((s_i - s_j) - (t_i - t_j))^2, then over queries; with one relevant and one other candidate it is the
    paper's. A constant that is added to all scores of a query does not matter.

    Args:
        student: scores, (queries, candidates), two candidates or more.
        teacher: the same shape.
    """
    candidates = student.shape[1]
    error = student - teacher
    # the sum over unordered pairs of squared differences is n times the sum of squares around the mean
    around_mean = (error - error.mean(dim=1, keepdim=True)).square().sum(dim=1)
    return (around_mean * 2 / (candidates - 1)).mean()


def listwise_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T^2 KL(softmax(teacher / T) || softmax(student / T)) over the candidates of a query, mean over queries.

    Args:
        student: scores, (queries, candidates).
        teacher: the same shape.
        temperature: T > 0.
    """
    log_student, log_teacher = (functional.log_softmax(scores / temperature, dim=1) for scores in (student, teacher))
    return temperature**2 * functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
