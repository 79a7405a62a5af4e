"""Losses of layers: values by hand and in closed form, and what must not change them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from compress.distill.losses import dkd_logits_loss, dkd_loss, hidden_mse, hidden_nmse, logits_loss, soft_cross_entropy
from compress.distill.losses_attention import attention_mse, attention_scores, relation_kl
from compress.distill.losses_states import cka_distance, gram_mse, mean_over_examples, ordered_assignment, pkd_mse

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def attention(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of scores, the states being queries and keys in turn."""
    return attention_mse(attention_scores(student, 2 * student, 2), attention_scores(teacher, 2 * teacher, 2), mask)


TOKEN_LOSSES: dict[str, Loss] = {
    "hidden": hidden_mse,
    "nmse": hidden_nmse,
    "attention": attention,
    "relations": lambda student, teacher, mask: relation_kl(student, teacher, mask, 4),
    "gram": gram_mse,
    "cka": cka_distance,
}


def states(seed: int, width: int = 8) -> torch.Tensor:
    return torch.randn(3, 4, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_the_teacher_itself_has_no_loss_and_another_has_one(name: str) -> None:
    loss, teacher = TOKEN_LOSSES[name], states(0)
    assert float(loss(teacher.clone(), teacher, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(loss(states(1), teacher, MASK)) > 1e-3


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_padding_changes_neither_value_nor_gradient(name: str) -> None:
    """Pad tokens and whole examples of nothing but padding, whatever their states, are as if they were not there."""
    loss, student, teacher = TOKEN_LOSSES[name], states(0), states(1)
    expected = loss(student, teacher, MASK)
    noise = torch.Generator().manual_seed(2)
    wide = [torch.cat([part, 50 * torch.randn(3, 3, 8, generator=noise)], 1) for part in (student, teacher)]
    tall = [torch.cat([part, 50 * torch.randn(2, 7, 8, generator=noise)], 0).requires_grad_() for part in wide]
    mask = functional.pad(MASK, (0, 3, 0, 2))
    found = loss(tall[0], tall[1], mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    found.backward()
    assert tall[0].grad is not None
    assert not tall[0].grad[mask == 0].any()
    assert tall[0].grad[mask == 1].any()
    assert torch.isfinite(tall[0].grad).all()


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_a_batch_of_nothing_has_no_loss(name: str) -> None:
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


def test_relations_do_not_depend_on_a_turn_of_each_head() -> None:
    """XX' is the same in any orthogonal basis of a relation head."""
    student, teacher = states(0), states(1)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    turned = (student.unflatten(-1, (2, 4)) @ turn).flatten(-2)
    torch.testing.assert_close(relation_kl(turned, teacher, MASK, 2), relation_kl(student, teacher, MASK, 2), rtol=1e-4, atol=1e-6)


def test_gram_by_hand() -> None:
    """HH' / d of (1, 1), (0, 2) is [[1, 1], [1, 2]]; of the teacher's single dimension [[4, 0], [0, 0]]."""
    student, teacher = torch.tensor([[[1.0, 1.0], [0.0, 2.0]]]), torch.tensor([[[2.0], [0.0]]])
    assert float(gram_mse(student, teacher, torch.ones(1, 2))) == pytest.approx((9 + 1 + 1 + 4) / 4)


def test_gram_does_not_see_a_turn() -> None:
    student = states(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3))).Q
    assert float(gram_mse(student @ turn, student, MASK)) == pytest.approx(0, abs=1e-6)
    assert float(gram_mse(2 * student, student, MASK)) > 0.1


def test_pkd_by_hand() -> None:
    """(3, 4) is (0.6, 0.8) at length one, (0, 5) is (0, 1): (0.36 + 0.04) / 2."""
    assert float(pkd_mse(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 5.0]]))) == pytest.approx(0.2)


def test_pkd_sees_directions_alone() -> None:
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
def test_cka_does_not_see_turns_shifts_and_scales(scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(3, 4, 8, generator=draw), torch.randn(3, 4, 5, generator=draw)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=draw)).Q
    expected = cka_distance(student, teacher, MASK)
    found = cka_distance(scale * student @ turn + torch.randn(8, generator=draw), teacher, MASK)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert 0 <= float(expected) <= 1
    torch.testing.assert_close(cka_distance(teacher, student, MASK), expected)


def test_examples_without_tokens_do_not_count() -> None:
    assert float(mean_over_examples(torch.tensor([1.0, 3.0, 100.0]), torch.tensor([[1, 1], [1, 0], [0, 0]]))) == pytest.approx(2)


# ---- decoupled


def test_dkd_by_hand() -> None:
    """Teacher (1/2, 1/3, 1/6), student uniform, target 0: KL of (1/2, 1/2) from (1/3, 2/3), and of (2/3, 1/3) from halves."""
    teacher = torch.tensor([[1 / 2, 1 / 3, 1 / 6]]).log()
    tckd = 0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3))
    nckd = 2 / 3 * math.log((2 / 3) / 0.5) + 1 / 3 * math.log((1 / 3) / 0.5)
    for beta in (0.0, 1.0, 8.0):
        found = dkd_loss(torch.zeros(1, 3), teacher, torch.tensor([0]), 1.0, beta)
        assert float(found) == pytest.approx(tckd + beta * nckd, rel=1e-5)


@given(st.integers(3, 9), st.sampled_from([0.5, 1.0, 4.0]), st.integers(0, 1000))
def test_dkd_is_hintons_loss_where_beta_is_what_the_teacher_leaves(classes: int, temperature: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(1, classes, generator=draw), torch.randn(1, classes, generator=draw)
    target = torch.tensor([seed % classes])
    beta = float(1 - functional.softmax(teacher / temperature, -1)[0, target])
    found = dkd_loss(student, teacher, target, temperature, beta)
    torch.testing.assert_close(found, soft_cross_entropy(student, teacher, temperature), rtol=1e-3, atol=1e-5)
    assert float(dkd_loss(teacher + 3, teacher, target, temperature, 8.0)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("labeled", [True, False])
def test_dkd_of_tags_and_spans_leaves_padding_out(labeled: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, 5, generator=draw) for _ in range(2))
    tags = torch.tensor([[-100, 1, 2, -100], [-100, 4, -100, -100], [0, -100, 3, -100]])
    asked = tags != -100
    target = tags[asked] if labeled else teacher[asked].argmax(-1)
    found = dkd_logits_loss(student, teacher, tags, MASK, "tags", 2.0, 8.0, labeled)
    torch.testing.assert_close(found, dkd_loss(student[asked], teacher[asked], target, 2.0, 8.0))
    ends = torch.tensor([[0, 3], [0, 1], [1, 2]])
    whole = dkd_logits_loss(student[..., :2], teacher[..., :2], ends, MASK, "span", 2.0, 8.0, labeled)
    rows = []
    for number, length in enumerate([4, 2, 3]):
        for end in range(2):
            parts = [logits[number, :length, end][None] for logits in (student, teacher)]
            place = ends[number, end : end + 1] if labeled else parts[1].argmax(-1)
            rows.append(dkd_loss(parts[0], parts[1], place, 2.0, 8.0))
    torch.testing.assert_close(whole, torch.stack(rows).mean(), rtol=1e-4, atol=1e-5)


def test_dkd_of_nothing_asked() -> None:
    nothing = torch.full((1, 2), -100)
    assert float(dkd_logits_loss(torch.randn(1, 2, 3), torch.randn(1, 2, 3), nothing, torch.ones(1, 2), "tags", 1.0, 8.0, True)) == 0


@pytest.mark.parametrize("target", ["class", "labels", "value", "tags", "span"])
def test_the_logits_loss_of_every_kind_is_least_at_the_teacher(target: str) -> None:
    shape = {"class": (3, 4), "labels": (3, 4), "value": (3, 1)}.get(target, (3, 4, 2))
    teacher = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    student = teacher.clone().requires_grad_()
    labels = torch.zeros(3, 4, dtype=torch.long)
    loss = logits_loss(student, teacher, labels, MASK, target, 2.0)  # type: ignore[arg-type]
    loss.backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.zeros_like(student), rtol=0, atol=1e-6)


# ---- the match of CoFi


@given(st.lists(st.lists(st.floats(0, 10), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_match_is_the_best_of_all_that_keep_the_order(costs: list[list[float]]) -> None:
    found = ordered_assignment(costs)
    assert found == sorted(found)
    every = [path for path in itertools.product(range(3), repeat=len(costs)) if list(path) == sorted(path)]
    totals = [sum(row[column] for row, column in zip(costs, path, strict=True)) for path in every]
    assert sum(row[column] for row, column in zip(costs, found, strict=True)) == pytest.approx(min(totals))
