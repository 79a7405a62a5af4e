"""Losses of vectors and relevance scores against a teacher's."""

from __future__ import annotations

import math

import pytest
import torch

from compress.distill.losses_vectors import listwise_kl, margin_mse, similarity_kl

KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # of (3/4, 1/4) from (1/2, 1/2)


def values(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_similarity_kl_by_hand() -> None:
    """Of three texts the teacher's first is nearer to the second, by ln 3 at its temperature; the student's is as near to both."""
    angle = math.pi / 3  # cosines 1/2 and 0
    teacher = torch.tensor([[1.0, 0, 0], [math.cos(angle), math.sin(angle), 0], [0, 0, 1.0]])
    student = 7 * torch.eye(4)[:3]
    temperature = 0.5 / math.log(3)
    expected = (KL + KL + 0) / 3  # the second text has the cosines of the first, the third is as near to both
    assert float(similarity_kl(student, teacher, temperature)) == pytest.approx(expected, rel=1e-4)
    assert float(similarity_kl(2 * teacher, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(similarity_kl(student[:1], teacher[:1])) == 0


def test_margin_mse_is_the_papers_for_two_candidates() -> None:
    student, teacher = torch.tensor([[1.0, 0.5], [0.0, 2.0]]), torch.tensor([[3.0, 1.0], [5.0, 7.0]])
    assert float(margin_mse(student, teacher)) == pytest.approx(((0.5 - 2.0) ** 2 + 0) / 2)


def test_margin_mse_is_the_mean_over_pairs() -> None:
    student, teacher = values(3, 5), values(5, 3).T
    margins = [scores[:, :, None] - scores[:, None, :] for scores in (student, teacher)]
    pairs = (margins[0] - margins[1]).square().sum((1, 2)) / (5 * 4)
    torch.testing.assert_close(margin_mse(student, teacher), pairs.mean())
    torch.testing.assert_close(margin_mse(student + 4, teacher), pairs.mean())


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_listwise_kl_by_hand(temperature: float) -> None:
    teacher = torch.tensor([[temperature * math.log(3), 0.0], [1.0, 1.0]])
    assert float(listwise_kl(torch.zeros(2, 2), teacher, temperature)) == pytest.approx(temperature**2 * KL / 2, rel=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    teacher = values(4, 3).detach().flip(0)
    assert torch.autograd.gradcheck(lambda student: similarity_kl(student, teacher[:, :2], 0.5), (values(4, 3),))
    assert torch.autograd.gradcheck(lambda student: margin_mse(student, teacher), (values(4, 3),))
    assert torch.autograd.gradcheck(lambda student: listwise_kl(student, teacher, 0.7), (values(4, 3),))
