"""Losses of embedders and rerankers on labels: pure functions of vectors or scores."""

from __future__ import annotations

import torch
from torch.nn import functional

TEMPERATURE = 0.05  # of cosines: the scale 20 of sentence-transformers


def cosine_matrix(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the cosine of every row of one matrix with every row of another, (rows, other rows)."""
    return functional.normalize(first, dim=-1) @ functional.normalize(second, dim=-1).T


def in_batch_negatives_loss(
    queries: torch.Tensor, documents: torch.Tensor, relevant: torch.Tensor, temperature: float = TEMPERATURE
) -> torch.Tensor:
    """Multiple negatives ranking (Henderson et al. 2017, arXiv 1705.00652, section 4.4), with cosines: mean of -log p(i | i).

    p(j | i) is the softmax over the documents of the batch of cos(query i, document j) / temperature. Documents that are relevant to a
    query are no negatives of it.

    Args:
        queries: vectors, (batch, size).
        documents: vectors, (batch, size); document i is relevant to query i.
        relevant: whether document j is relevant to query i, (batch, batch) bool.
        temperature: of the softmax.
    """
    scores = cosine_matrix(queries, documents) / temperature
    others = relevant & ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(others, -torch.inf)
    return functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def cosent_loss(cosines: torch.Tensor, scores: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """CoSENT (Su 2022): log(1 + sum over pairs of pairs with scores s_i > s_j of exp((cos_j - cos_i) / temperature)).

    Only the order of the scores matters, as in Spearman's correlation.

    Args:
        cosines: of the pairs, (batch,).
        scores: of the same pairs, (batch,).
        temperature: of the cosines.
    """
    wrong = (cosines[None, :] - cosines[:, None]) / temperature  # (i, j): by how much pair j is closer than pair i
    counted = wrong[scores[:, None] > scores[None, :]]
    return torch.cat([counted.new_zeros(1), counted]).logsumexp(0)


def pointwise_loss(scores: torch.Tensor, grades: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy of relevant or not, mean over candidates (Nogueira & Cho 2019, arXiv 1901.04085, eq. 1).

    Args:
        scores: logits, (lists, candidates).
        grades: not negative, (lists, candidates).
    """
    return functional.binary_cross_entropy_with_logits(scores, (grades > 0).to(scores.dtype))


def listwise_loss(scores: torch.Tensor, grades: torch.Tensor) -> torch.Tensor:
    """Softmax cross-entropy of lists (Bruch et al. 2019): -sum of grade / sum of grades * log softmax(scores), mean over lists.

    A list without a relevant document has no loss, and counts in the mean.

    Args:
        scores: logits, (lists, candidates).
        grades: not negative, (lists, candidates).
    """
    weights = grades / grades.sum(dim=1, keepdim=True).clamp_min(1)
    return -(weights * functional.log_softmax(scores, dim=1)).sum(dim=1).mean()
