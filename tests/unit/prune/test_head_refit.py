"""The end of the head refitted: against closed forms, for every kind of answer, and refused where it is no better."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from compress.distill.teacher_outputs import TeacherOutputs
from compress.models.device import to_tensors
from compress.models.family import family_of
from compress.models.layers import find_submodule
from compress.models.task_loss import logits_of
from compress.prune.head_refit import RIDGES, HeadRows, refit_head, refit_head_linear
from tests import tiny

CPU = torch.device("cpu")


def rows(count: int, wanted: torch.nn.Linear, seed: int) -> HeadRows:
    inputs = torch.randn(count, wanted.in_features, generator=torch.Generator().manual_seed(seed))
    return HeadRows(inputs, wanted(inputs).detach(), torch.ones(count, 1))


def least(data: HeadRows, target: Any) -> float:
    """The loss of the answers that are wanted themselves, which is 0 but for labels."""
    wanted = HeadRows(data.logits, data.logits, data.mask)
    return float(wanted.loss(torch.eye(data.logits.shape[1]), torch.zeros(data.logits.shape[1]), target))


def answers_of(dense: Any, data: Any) -> TeacherOutputs:
    """What the dense model answers, as the cache would give it."""
    found = []
    for number in range(len(data)):
        with torch.no_grad():
            found.append(logits_of(dense(**to_tensors(data.batch([number]), dense, CPU))).numpy())
    rows = [logits.reshape(-1, logits.shape[-1]) for logits in found]
    return TeacherOutputs(np.concatenate(rows), None, data.starts)


@pytest.mark.parametrize("target", ["class", "labels", "value"])
def test_answers_that_a_linear_can_give_are_found(target: Any) -> None:
    torch.manual_seed(0)
    wanted, linear = torch.nn.Linear(5, 1 if target == "value" else 3), torch.nn.Linear(5, 1 if target == "value" else 3)
    errors = refit_head_linear(linear, rows(400, wanted, 1), rows(100, wanted, 2), target)
    assert errors["after"] - least(rows(100, wanted, 2), target) < 1e-3 < 1e-2 < errors["before"] - errors["after"]
    fresh = rows(50, wanted, 3)
    assert float(fresh.loss(linear.weight.detach(), linear.bias.detach(), target)) - least(fresh, target) < 1e-3


def test_a_value_is_fitted_as_by_ridge_least_squares() -> None:
    torch.manual_seed(0)
    linear, inputs, targets = torch.nn.Linear(4, 1), torch.randn(60, 4), torch.randn(60, 1)
    old = linear.weight.detach().clone().double()
    data = HeadRows(inputs, targets, torch.ones(60, 1))
    refit_head_linear(linear, data, data, "value")  # judged on the same rows: the loosest ridge is best
    extended = torch.cat([inputs, torch.ones(60, 1)], dim=1).double()
    penalty = RIDGES[-1] * 60 * torch.diag(torch.tensor([1.0, 1, 1, 1, 0])).double()
    pulled = penalty @ torch.cat([old.T, torch.zeros(1, 1).double()])
    expected = torch.linalg.solve(extended.T @ extended + penalty, extended.T @ targets.double() + pulled)
    torch.testing.assert_close(linear.weight.detach().double(), expected[:4].T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(linear.bias.detach().double(), expected[4], rtol=1e-3, atol=1e-4)


def test_a_fit_that_is_no_better_on_held_out_rows_is_refused() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3)
    before = copy.deepcopy(linear.state_dict())
    right = rows(50, linear, 1)
    errors = refit_head_linear(linear, HeadRows(torch.randn(50, 5), 5 * torch.randn(50, 3), torch.ones(50, 1)), right, "class")
    assert errors["before"] == errors["after"] == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(linear.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(("family", "target"), tiny.EACH_FAMILY)
def test_a_disturbed_head_is_mended_and_nothing_else_changes(family: str, target: Any) -> None:
    dense = tiny.make_model(family, target=target).eval()
    model = copy.deepcopy(dense)
    last = family_of(family).last_linear(target)
    linear = find_submodule(model, last)
    with torch.no_grad():
        linear.weight.add_(0.3 * torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(1)))
    before = copy.deepcopy(model.state_dict())
    data = tiny.encoded(family, count=60)
    if target == "tags":
        data = replace(data, labels=[np.zeros(length, dtype=np.int64) for length in data.lengths])
    batches, answers = [np.arange(start, 60, 10) for start in range(10)], answers_of(dense, data)
    # Only the cross-entropy of independent labels has a minimum above 0.
    least = refit_head(copy.deepcopy(dense), data, batches, answers, target, CPU)["after"] if target == "labels" else 0.0
    errors = refit_head(model, data, batches, answers, target, CPU)
    assert errors["after"] - least < 0.3 * (errors["before"] - least)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{last}.weight", f"{last}.bias"}


def test_padding_of_spans_counts_for_nothing() -> None:
    torch.manual_seed(0)
    linear, wanted = torch.nn.Linear(5, 2), torch.nn.Linear(5, 2)
    inputs = torch.randn(8, 6, 5)
    plain = HeadRows(inputs, wanted(inputs).detach(), torch.ones(8, 6))
    longer = [torch.cat([part, torch.randn(8, 3, part.shape[2])], 1) for part in (plain.inputs, plain.logits)]
    padded = HeadRows(*longer, torch.cat([plain.mask, torch.zeros(8, 3)], 1))
    other = copy.deepcopy(linear)
    errors = refit_head_linear(linear, plain, plain, "span")
    assert errors == pytest.approx(refit_head_linear(other, padded, padded, "span"), rel=1e-3, abs=1e-5)
    torch.testing.assert_close(linear.weight, other.weight, rtol=1e-2, atol=1e-2)
