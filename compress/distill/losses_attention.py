"""Losses of attention: scores before the softmax, and relations of queries, keys and values.

Both are computed from the outputs of the query, key and value projections, (batch, tokens, heads * head_size), so the models may use
any attention kernel. Examples without real tokens (the whole mask is 0) are ignored.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from compress.distill.losses import MASKED_LOGIT
from compress.distill.losses_states import mean_over_examples


def attention_scores(query: torch.Tensor, key: torch.Tensor, heads: int) -> torch.Tensor:
    """Return QK' / sqrt(head size), (batch, heads, tokens, tokens), in float32, without a bias of relative positions.

    Args:
        query: (batch, tokens, heads * head_size).
        key: the same shape.
        heads: their number.
    """
    first, second = _split_heads(query, heads), _split_heads(key, heads)
    return first @ second.transpose(-1, -2) / math.sqrt(first.shape[-1])


def attention_mse(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """TinyBERT (Jiao et al. 2020), eq. 7: mean squared error of scores before the softmax, over heads and pairs of real tokens.

    Args:
        student: (batch, heads, tokens, tokens).
        teacher: the same shape, with the same number of heads.
        attention_mask: (batch, tokens), 1 for real tokens.
    """
    pairs = (attention_mask.unsqueeze(1) * attention_mask.unsqueeze(2)).unsqueeze(1).float()  # (batch, 1, tokens, tokens)
    total = ((student - teacher) * pairs).square().sum()
    return total / (pairs.sum().clamp_min(1) * student.shape[1])


def relation_kl(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor, heads: int) -> torch.Tensor:
    """MiniLM v2 (Wang et al. 2021, arXiv 2012.15828), eq. 5 and 6: KL(softmax(XX' / sqrt(d_r)) of teacher || of student).

    X is one of queries, keys and values, split into `heads` relation heads of d_r dimensions, so neither widths nor heads need to
    agree. Mean over the relation heads and real tokens of each example, then over examples.

    Args:
        student: (batch, tokens, student width), a multiple of `heads`.
        teacher: (batch, tokens, teacher width), a multiple of `heads`.
        attention_mask: (batch, tokens), 1 for real tokens.
        heads: A_r, the number of relation heads.
    """
    padding = (attention_mask == 0)[:, None, None, :]
    parts = [
        functional.log_softmax(attention_scores(states, states, heads).masked_fill(padding, MASKED_LOGIT), dim=-1)
        for states in (student, teacher)
    ]
    each = functional.kl_div(parts[0], parts[1], log_target=True, reduction="none").sum(-1).mean(1)  # (batch, tokens)
    mask = attention_mask.float()
    return mean_over_examples((each * mask).sum(1) / mask.sum(1).clamp_min(1), attention_mask)


def _split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, tokens, heads * size) -> (batch, heads, tokens, size), float32."""
    return states.float().unflatten(-1, (heads, -1)).transpose(1, 2)
