"""The loss of every kind of task, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from compress.data.encoded import IGNORED
from compress.models.task_loss import sampled_labels, task_loss

MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def test_classes() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    assert task_loss(logits, torch.tensor([0, 1]), MASK, "class").item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_labels_are_the_mean_over_labels() -> None:
    logits, labels = torch.zeros(2, 4), torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0]])
    assert task_loss(logits, labels, MASK, "labels").item() == pytest.approx(math.log(2))
    assert task_loss(logits, labels, MASK, "labels", summed=True).item() == pytest.approx(2 * math.log(2))


def test_values() -> None:
    assert task_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 0.0]), MASK, "value").item() == pytest.approx((1 + 9) / 2)


def test_tags_that_are_not_asked_for_do_not_count() -> None:
    logits = torch.randn(2, 3, 5)
    labels = torch.tensor([[IGNORED, 2, IGNORED], [IGNORED, 1, IGNORED]])
    expected = (functional.cross_entropy(logits[0, 1:2], labels[0, 1:2]) + functional.cross_entropy(logits[1, 1:2], labels[1, 1:2])) / 2
    assert task_loss(logits, labels, MASK, "tags").item() == pytest.approx(expected.item())


def test_a_span_does_not_end_in_padding() -> None:
    """Two real tokens, all logits equal: each end costs log 2, whatever stands at the padding."""
    logits = torch.zeros(1, 3, 2)
    logits[0, 2] = 50.0
    assert task_loss(logits, torch.tensor([[0, 1]]), torch.tensor([[1, 1, 0]]), "span").item() == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("target", ["class", "labels", "value", "tags", "span"])
def test_a_sum_is_the_mean_times_the_number_of_items(target: str) -> None:
    shapes = {"class": (4, 3), "labels": (4, 3), "value": (4, 1), "tags": (4, 5, 3), "span": (4, 5, 2)}
    labels = {
        "class": torch.tensor([0, 1, 2, 1]),
        "labels": torch.tensor([[1.0, 0, 1]] * 4),
        "value": torch.randn(4),
        "tags": torch.randint(0, 3, (4, 5)),
        "span": torch.randint(0, 5, (4, 2)),
    }[target]
    logits, mask = torch.randn(shapes[target]), torch.ones(4, 5, dtype=torch.long)
    count = 20 if target == "tags" else 4
    mean, total = (task_loss(logits, labels, mask, target, summed) for summed in (False, True))  # pyright: ignore
    assert total.item() == pytest.approx(count * mean.item(), rel=1e-5)


def test_labels_are_drawn_from_the_models_own_distribution() -> None:
    draw = torch.Generator().manual_seed(0)
    many = 4000
    logits = torch.tensor([[0.0, math.log(3.0)]]).expand(many, 2)
    mask = torch.ones(many, 3, dtype=torch.long)
    drawn = sampled_labels(logits, torch.zeros(many, dtype=torch.long), mask, "class", draw)
    assert drawn.float().mean().item() == pytest.approx(0.75, abs=0.03)
    sets = sampled_labels(logits, torch.zeros(many, 2), mask, "labels", draw)
    assert sets.mean(0).tolist() == pytest.approx([0.5, 0.75], abs=0.03)
    values = sampled_labels(logits[:, 1:], torch.zeros(many), mask, "value", draw)
    assert values.mean().item() == pytest.approx(math.log(3), abs=0.05)
    assert values.var().item() == pytest.approx(0.5, abs=0.05)  # whose log-likelihood is the squared error
    asked = torch.tensor([[IGNORED, 1, IGNORED]] * many)
    tags = sampled_labels(logits[:, None].expand(many, 3, 2), asked, mask, "tags", draw)
    assert (tags[:, [0, 2]] == IGNORED).all()
    assert tags[:, 1].float().mean().item() == pytest.approx(0.75, abs=0.03)
    half = torch.tensor([[1, 1, 0]] * many)
    ends = sampled_labels(torch.zeros(many, 3, 2), torch.zeros(many, 2), half, "span", draw)
    assert ends.max() == 1  # never in padding
    assert ends.float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_window_that_asks_for_nothing_costs_nothing() -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    loss = task_loss(logits, torch.full((1, 3), IGNORED), torch.ones(1, 3), "tags")
    loss.backward()
    assert loss.item() == 0


def test_vectors_are_values_summed_over_dimensions() -> None:
    vectors, expected = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert task_loss(vectors, expected, MASK, "vector").item() == pytest.approx(1)
    assert task_loss(vectors, expected, MASK, "vector", summed=True).item() == pytest.approx(2)


def test_drawn_vectors_give_the_gauss_newton_matrix() -> None:
    """The squared gradients of many draws are 2 J'J, as for a value: J is the derivative of the normalised vector."""
    point = torch.tensor([0.6, -0.3, 1.2], requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda x: functional.normalize(x, dim=0), point)
    assert isinstance(jacobian, torch.Tensor)
    draw, total, count = torch.Generator().manual_seed(0), torch.zeros(3, 3), 1000
    for _ in range(count):
        vector = functional.normalize(point, dim=0).unsqueeze(0)
        drawn = sampled_labels(vector.detach(), torch.zeros(1), MASK[:1], "vector", draw)
        (gradient,) = torch.autograd.grad(task_loss(vector, drawn, MASK[:1], "vector", summed=True), point)
        total += torch.outer(gradient, gradient) / count
    assert torch.allclose(total, 2 * jacobian.T @ jacobian, atol=0.2)
