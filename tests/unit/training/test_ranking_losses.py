"""Losses of embedders and rerankers on labels."""

from __future__ import annotations

import math

import pytest
import torch

from compress.training.ranking_losses import cosent_loss, cosine_matrix, in_batch_negatives_loss, listwise_loss, pointwise_loss


def values(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_in_batch_negatives_by_hand() -> None:
    """Cosines 1 and 0 at temperature 1/ln 3: each softmax is 3/4, 1/4."""
    vectors = torch.eye(2)
    relevant = torch.eye(2, dtype=torch.bool)
    loss = in_batch_negatives_loss(2 * vectors, 5 * vectors, relevant, 1 / math.log(3))
    assert float(loss) == pytest.approx(-math.log(3 / 4), rel=1e-5)


def test_other_relevant_documents_are_no_negatives() -> None:
    vectors = torch.eye(3)
    relevant = torch.tensor([[1, 1, 1], [0, 1, 0], [0, 0, 1]], dtype=torch.bool)
    loss = in_batch_negatives_loss(vectors, vectors, relevant, 1 / math.log(2))
    assert float(loss) == pytest.approx(-2 * math.log(2 / 4) / 3, rel=1e-5)  # nothing is left to confuse the first query with


def test_cosent_by_hand() -> None:
    """Three pairs, scores 2 > 1 = 1: two comparisons."""
    cosines, scores = torch.tensor([0.5, 0.7, 0.2]), torch.tensor([2.0, 1.0, 1.0])
    expected = math.log(1 + math.exp((0.7 - 0.5) / 0.1) + math.exp((0.2 - 0.5) / 0.1))
    assert float(cosent_loss(cosines, scores, 0.1)) == pytest.approx(expected, rel=1e-5)
    assert float(cosent_loss(cosines, 10 * scores - 3, 0.1)) == pytest.approx(expected, rel=1e-5)  # only the order matters
    assert float(cosent_loss(cosines, torch.ones(3))) == 0


def test_listwise_by_hand() -> None:
    """Softmax (1/2, 1/4, 1/4), grades 2, 1, 0; a list without a relevant document adds nothing."""
    scores = torch.tensor([[math.log(2), 0.0, 0.0]] * 2)
    grades = torch.tensor([[2, 1, 0], [0, 0, 0]])
    expected = -(2 / 3 * math.log(1 / 2) + 1 / 3 * math.log(1 / 4)) / 2
    assert float(listwise_loss(scores, grades)) == pytest.approx(expected, rel=1e-5)


def test_pointwise_by_hand() -> None:
    """Probabilities 3/4 and 1/2; any positive grade is relevant."""
    loss = pointwise_loss(torch.tensor([[math.log(3), 0.0]]), torch.tensor([[2, 0]]))
    assert float(loss) == pytest.approx(-(math.log(3 / 4) + math.log(1 / 2)) / 2, rel=1e-5)


def test_cosines() -> None:
    torch.testing.assert_close(
        cosine_matrix(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])), torch.tensor([[0.6, 0.8]])
    )


def test_gradients_are_those_of_finite_differences() -> None:
    relevant = torch.eye(4, dtype=torch.bool)
    relevant[0, 2] = True
    scores, grades = torch.tensor([0.0, 2.0, 1.0, 2.0]), torch.tensor([[1, 0, 2], [0, 1, 0]])
    assert torch.autograd.gradcheck(lambda a, b: in_batch_negatives_loss(a, b, relevant, 0.5), (values(4, 3), values(4, 3)))
    assert torch.autograd.gradcheck(lambda cosines: cosent_loss(cosines, scores, 0.5), (values(4),))
    assert torch.autograd.gradcheck(lambda logits: pointwise_loss(logits, grades), (values(2, 3),))
    assert torch.autograd.gradcheck(lambda logits: listwise_loss(logits, grades), (values(2, 3),))
