"""Distillation losses against hand-worked values."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from compress.distill.losses import dkd_logits_loss, dkd_loss, hidden_mse, hidden_nmse, logits_loss, soft_cross_entropy
from tests.unit.distill.helpers import MASK

KL = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # of (3/4, 1/4) from (1/2, 1/2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_soft_cross_entropy_by_hand(temperature: float) -> None:
    """Teacher logits (T ln 3, 0) soften to (3/4, 1/4) at every T; the student says (1/2, 1/2)."""
    teacher = torch.tensor([[temperature * math.log(3), 0.0]])
    assert float(soft_cross_entropy(torch.zeros(1, 2), teacher, temperature)) == pytest.approx(temperature**2 * KL, rel=1e-5)


def test_soft_cross_entropy_is_the_mean_over_the_batch() -> None:
    teacher = torch.tensor([[math.log(3), 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert float(soft_cross_entropy(torch.zeros(3, 2), teacher, 1.0)) == pytest.approx(KL / 3, rel=1e-5)


def test_soft_cross_entropy_ignores_a_shift_and_is_zero_at_the_teacher() -> None:
    teacher = torch.randn(4, 5)
    assert float(soft_cross_entropy(teacher + 7, teacher - 3, 2.0)) == pytest.approx(0, abs=1e-5)
    assert float(soft_cross_entropy(torch.randn(4, 5), teacher, 2.0)) > 0


def test_gradient_keeps_its_size_at_high_temperature() -> None:
    """T^2 makes the gradient tend to (student - teacher) / classes of centred logits (Hinton et al. 2015, section 2.1)."""
    student, teacher = torch.tensor([[1.0, -1.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 2.0, -2.0]])
    soft_cross_entropy(student, teacher, 100.0).backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 3, rtol=0, atol=0.02)


def test_gradient_is_the_difference_of_the_softened_probabilities() -> None:
    student, teacher = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    soft_cross_entropy(student, teacher, 3.0).backward()
    expected = 3.0 * (functional.softmax(student.detach() / 3, 1) - functional.softmax(teacher / 3, 1)) / 6
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected, rtol=1e-4, atol=1e-6)


def test_half_precision_logits_are_widened() -> None:
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    exact = soft_cross_entropy(student.bfloat16().float(), teacher.bfloat16().float(), 2.0)
    actual = soft_cross_entropy(student.bfloat16(), teacher.bfloat16(), 2.0)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, exact)


def test_hidden_mse_by_hand() -> None:
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [100.0, 100.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 4.0]], [[5.0, 7.0], [-100.0, 0.0]]])
    mask = torch.tensor([[1, 1], [1, 0]])
    # Squares 0 + 4, 9 + 0, 0 + 1 over three real tokens of two dimensions.
    assert float(hidden_mse(student, teacher, mask)) == pytest.approx(14 / 6)


def test_hidden_nmse_by_hand_and_whatever_the_scale() -> None:
    student, teacher = torch.tensor([[[1.0, 2.0], [50.0, 50.0]]]), torch.tensor([[[3.0, 1.0], [7.0, 0.0]]])
    mask = torch.tensor([[1, 0]])
    assert float(hidden_nmse(student, teacher, mask)) == pytest.approx((4 + 1) / (9 + 1))
    assert float(hidden_nmse(1e-3 * student, 1e-3 * teacher, mask)) == pytest.approx(0.5)
    assert float(hidden_nmse(0 * student, teacher, mask)) == pytest.approx(1)


def test_padding_changes_nothing() -> None:
    student, teacher = torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    mask = torch.ones(3, 5, dtype=torch.long)
    expected = hidden_mse(student, teacher, mask)
    assert float(expected) == pytest.approx(float(functional.mse_loss(student, teacher)), rel=1e-5)
    wide = [torch.cat([states, 1e3 * torch.randn(3, 4, 8)], dim=1).requires_grad_() for states in (student, teacher)]
    loss = hidden_mse(wide[0], wide[1], torch.cat([mask, torch.zeros(3, 4, dtype=torch.long)], dim=1))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert wide[0].grad is not None
    assert not wide[0].grad[:, 5:].any()
    assert wide[0].grad[:, :5].any()


def test_dkd_by_hand() -> None:
    """Teacher (1/2, 1/3, 1/6), student uniform, target 0: KL of (1/2, 1/2) from (1/3, 2/3), and of (2/3, 1/3) from halves."""
    teacher = torch.tensor([[1 / 2, 1 / 3, 1 / 6]]).log()
    tckd = 0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3))
    nckd = 2 / 3 * math.log((2 / 3) / 0.5) + 1 / 3 * math.log((1 / 3) / 0.5)
    for beta in (0.0, 1.0, 8.0):
        actual = dkd_loss(torch.zeros(1, 3), teacher, torch.tensor([0]), 1.0, beta)
        assert float(actual) == pytest.approx(tckd + beta * nckd, rel=1e-5)


@given(st.integers(3, 9), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 1000))
def test_dkd_is_hintons_loss_if_beta_is_one_minus_the_teachers_target(classes: int, temperature: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(1, classes, generator=draw), torch.randn(1, classes, generator=draw)
    target = torch.tensor([seed % classes])
    beta = float(1 - functional.softmax(teacher / temperature, -1)[0, target])
    actual = dkd_loss(student, teacher, target, temperature, beta)
    torch.testing.assert_close(actual, soft_cross_entropy(student, teacher, temperature), rtol=1e-3, atol=1e-5)
    assert float(dkd_loss(teacher + 3, teacher, target, temperature, 8.0)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("labeled", [True, False])
def test_dkd_of_tags_and_spans_ignores_padding(labeled: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, 5, generator=draw) for _ in range(2))
    tags = torch.tensor([[-100, 1, 2, -100], [-100, 4, -100, -100], [0, -100, 3, -100]])
    labelled = tags != -100
    target = tags[labelled] if labeled else teacher[labelled].argmax(-1)
    actual = dkd_logits_loss(student, teacher, tags, MASK, "tags", 2.0, 8.0, labeled)
    torch.testing.assert_close(actual, dkd_loss(student[labelled], teacher[labelled], target, 2.0, 8.0))
    ends = torch.tensor([[0, 3], [0, 1], [1, 2]])
    whole = dkd_logits_loss(student[..., :2], teacher[..., :2], ends, MASK, "span", 2.0, 8.0, labeled)
    rows = []
    for number, length in enumerate([4, 2, 3]):
        for end in range(2):
            parts = [logits[number, :length, end][None] for logits in (student, teacher)]
            place = ends[number, end : end + 1] if labeled else parts[1].argmax(-1)
            rows.append(dkd_loss(parts[0], parts[1], place, 2.0, 8.0))
    torch.testing.assert_close(whole, torch.stack(rows).mean(), rtol=1e-4, atol=1e-5)


def test_dkd_without_labelled_tokens_is_zero() -> None:
    nothing = torch.full((1, 2), -100)
    assert float(dkd_logits_loss(torch.randn(1, 2, 3), torch.randn(1, 2, 3), nothing, torch.ones(1, 2), "tags", 1.0, 8.0, True)) == 0


@pytest.mark.parametrize("target", ["class", "labels", "value", "tags", "span"])
def test_the_logits_loss_of_every_target_is_minimal_at_the_teacher(target: str) -> None:
    shape = {"class": (3, 4), "labels": (3, 4), "value": (3, 1)}.get(target, (3, 4, 2))
    teacher = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    student = teacher.clone().requires_grad_()
    labels = torch.zeros(3, 4, dtype=torch.long)
    loss = logits_loss(student, teacher, labels, MASK, target, 2.0)  # type: ignore[arg-type]
    loss.backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(student), rtol=0, atol=1e-6)


def test_vectors_are_compared_by_their_distance_whatever_their_size() -> None:
    teacher = torch.randn(5, 7)
    mask = torch.ones(5, 1)
    loss = logits_loss(teacher + 0.1, teacher, mask, mask, "vector", 2.0)
    assert loss.item() == pytest.approx(5 * 7 * 0.01 / teacher.square().sum().item(), rel=1e-4)
    assert logits_loss(9 * teacher + 0.9, 9 * teacher, mask, mask, "vector", 1.0).item() == pytest.approx(loss.item(), rel=1e-4)
    assert logits_loss(torch.zeros(5, 7), teacher, mask, mask, "vector", 1.0).item() == pytest.approx(1)
