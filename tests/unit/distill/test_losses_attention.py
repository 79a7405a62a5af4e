"""Losses of attention: values by hand and in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from compress.distill.losses_attention import attention_mse, attention_scores, relation_kl
from tests.unit.distill.helpers import MASK, states


def test_attention_scores_by_hand() -> None:
    """Two heads of two dimensions: (1, 0) and (0, 2) against (3, 1) and (5, 1), over the root of two."""
    query, key = torch.tensor([[[1.0, 0.0, 0.0, 2.0]]]), torch.tensor([[[3.0, 1.0, 5.0, 1.0]]])
    torch.testing.assert_close(attention_scores(query, key, 2), torch.tensor([[[[3.0]], [[2.0]]]]) / math.sqrt(2))


def test_attention_mse_by_hand() -> None:
    """One head; of the first example all four pairs count, of the second one: (1 + 4 + 9 + 16 + 25) / 5."""
    student = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 90.0], [90.0, 90.0]]]])
    assert float(attention_mse(student, torch.zeros_like(student), torch.tensor([[1, 1], [1, 0]]))) == pytest.approx(11)


def test_attention_scores_are_those_of_a_transformer() -> None:
    """Softmax of the scores, times the values, is scaled dot-product attention."""
    query, key, value = (states(seed) for seed in range(3))
    by_head = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (query, key, value)]
    expected = functional.scaled_dot_product_attention(*by_head)
    torch.testing.assert_close(attention_scores(query, key, 2).softmax(-1) @ by_head[2], expected)


def test_relations_by_hand() -> None:
    """One relation head of one dimension, two tokens: the teacher's rows are softmax(0, 0), the student's known."""
    student, teacher = torch.tensor([[[1.0], [2.0]]]), torch.zeros(1, 2, 1)
    rows = [[1.0, 2.0], [2.0, 4.0]]
    expected = 0.0
    for row in rows:
        total = sum(math.exp(value) for value in row)
        expected += sum(0.5 * (math.log(0.5) - math.log(math.exp(value) / total)) for value in row)
    assert float(relation_kl(student, teacher, torch.ones(1, 2), 1)) == pytest.approx(expected / 2, rel=1e-5)


def test_relations_do_not_change_if_heads_are_rotated() -> None:
    """XX' is the same in any orthogonal basis of a relation head."""
    student, teacher = states(0), states(1)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    turned = (student.unflatten(-1, (2, 4)) @ turn).flatten(-2)
    torch.testing.assert_close(relation_kl(turned, teacher, MASK, 2), relation_kl(student, teacher, MASK, 2), rtol=1e-4, atol=1e-6)
