"""Losses of layers: values by hand and in closed form, and invariances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from compress.distill.losses import hidden_mse, hidden_nmse
from compress.distill.losses_attention import attention_mse, attention_scores, relation_kl
from compress.distill.losses_states import cka_distance, gram_mse, mean_over_examples, ordered_assignment, pkd_mse
from tests.unit.distill.helpers import MASK, states

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def attention(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of scores whose queries and keys are the states."""
    return attention_mse(attention_scores(student, 2 * student, 2), attention_scores(teacher, 2 * teacher, 2), mask)


TOKEN_LOSSES: dict[str, Loss] = {
    "hidden": hidden_mse,
    "nmse": hidden_nmse,
    "attention": attention,
    "relations": lambda student, teacher, mask: relation_kl(student, teacher, mask, 4),
    "gram": gram_mse,
    "cka": cka_distance,
}


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_the_loss_is_zero_at_the_teacher_only(name: str) -> None:
    loss, teacher = TOKEN_LOSSES[name], states(0)
    assert float(loss(teacher.clone(), teacher, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(loss(states(1), teacher, MASK)) > 1e-3


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_padding_changes_neither_loss_nor_gradient(name: str) -> None:
    """Neither padded tokens nor examples of padding only, whatever their states."""
    loss, student, teacher = TOKEN_LOSSES[name], states(0), states(1)
    expected = loss(student, teacher, MASK)
    noise = torch.Generator().manual_seed(2)
    wide = [torch.cat([part, 50 * torch.randn(3, 3, 8, generator=noise)], 1) for part in (student, teacher)]
    tall = [torch.cat([part, 50 * torch.randn(2, 7, 8, generator=noise)], 0).requires_grad_() for part in wide]
    mask = functional.pad(MASK, (0, 3, 0, 2))
    actual = loss(tall[0], tall[1], mask)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)
    actual.backward()
    assert tall[0].grad is not None
    assert not tall[0].grad[mask == 0].any()
    assert tall[0].grad[mask == 1].any()
    assert torch.isfinite(tall[0].grad).all()


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_a_batch_of_padding_has_no_loss(name: str) -> None:
    student = states(0).requires_grad_()
    loss = TOKEN_LOSSES[name](student, states(1), torch.zeros_like(MASK))
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_the_order_of_examples_does_not_matter(name: str) -> None:
    loss, student, teacher = TOKEN_LOSSES[name], states(0), states(1)
    order = [2, 0, 1]
    torch.testing.assert_close(loss(student[order], teacher[order], MASK[order]), loss(student, teacher, MASK))


@pytest.mark.parametrize("name", ["relations", "gram", "cka"])
def test_widths_may_differ(name: str) -> None:
    assert torch.isfinite(TOKEN_LOSSES[name](states(0, 4), states(1, 12), MASK))


def test_gram_by_hand() -> None:
    """HH' / d of (1, 1), (0, 2) is [[1, 1], [1, 2]]; of the teacher's single dimension [[4, 0], [0, 0]]."""
    student, teacher = torch.tensor([[[1.0, 1.0], [0.0, 2.0]]]), torch.tensor([[[2.0], [0.0]]])
    assert float(gram_mse(student, teacher, torch.ones(1, 2))) == pytest.approx((9 + 1 + 1 + 4) / 4)


def test_gram_does_not_change_if_states_are_rotated() -> None:
    student = states(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3))).Q
    assert float(gram_mse(student @ turn, student, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(gram_mse(2 * student, student, MASK)) > 0.1


def test_pkd_by_hand() -> None:
    """(3, 4) is (0.6, 0.8) at length one, (0, 5) is (0, 1): (0.36 + 0.04) / 2."""
    assert float(pkd_mse(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.0]]))) == pytest.approx(0.2)


def test_pkd_depends_on_directions_only() -> None:
    first, second = states(0)[:, 0], states(1)[:, 0]
    torch.testing.assert_close(pkd_mse(3 * first, 0.1 * second), pkd_mse(first, second))
    assert float(pkd_mse(7 * first, first)) == pytest.approx(0, abs=1e-10)


def test_cka_by_hand() -> None:
    """One dimension each: CKA is the squared correlation; here of (-1, 0, 1) and (-1, 2, -1), which is 0, and of (1, 2, 4)."""
    line, bump = torch.tensor([[[-1.0], [0.0], [1.0]]]), torch.tensor([[[-1.0], [2.0], [-1.0]]])
    assert float(cka_distance(line, bump, torch.ones(1, 3))) == pytest.approx(1)
    other = torch.tensor([[[1.0], [2.0], [4.0]]])
    correlation = 3 / math.sqrt(2 * (16 + 1 + 25) / 9)
    assert float(cka_distance(line, other, torch.ones(1, 3))) == pytest.approx(1 - correlation**2, rel=1e-4)


@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_cka_does_not_change_with_rotations_shifts_and_scales(scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(3, 4, 8, generator=draw), torch.randn(3, 4, 5, generator=draw)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=draw)).Q
    expected = cka_distance(student, teacher, MASK)
    actual = cka_distance(scale * student @ turn + torch.randn(8, generator=draw), teacher, MASK)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
    assert 0 <= float(expected) <= 1
    torch.testing.assert_close(cka_distance(teacher, student, MASK), expected)


def test_examples_without_tokens_are_ignored() -> None:
    assert float(mean_over_examples(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([[1, 1], [1, 0], [0, 0]]))) == pytest.approx(2)


@given(st.lists(st.lists(st.floats(0, 10), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_assignment_is_the_best_of_all_ordered_ones(costs: list[list[float]]) -> None:
    actual = ordered_assignment(costs)
    assert actual == sorted(actual)
    every = [path for path in itertools.product(range(3), repeat=len(costs)) if list(path) == sorted(path)]
    totals = [sum(row[column] for row, column in zip(costs, path, strict=True)) for path in every]
    assert sum(row[column] for row, column in zip(costs, actual, strict=True)) == pytest.approx(min(totals))
