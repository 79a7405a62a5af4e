"""Refitting against closed forms, and where the answer is known: a neuron whose twin stays is replaced exactly."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import pytest
import torch

from compress.editing.reconstruction import Moments, Teacher, reconstruct, refit
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

CPU = torch.device("cpu")
module = importlib.import_module("compress.editing.reconstruction")


def moments_of(inputs: torch.Tensor, targets: torch.Tensor) -> Moments:
    """Sums over rows, added in two parts."""
    found = Moments(inputs.shape[1], targets.shape[1])
    found.add(inputs[:30], targets[:30])
    found.add(inputs[30:], targets[30:])
    return found


def test_the_fit_is_that_of_least_squares_with_an_intercept() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(100, 5), torch.randn(100, 3)
    old = torch.zeros(6, 3, dtype=torch.float64)
    found = moments_of(inputs, targets).solve(old, 1e-10)
    rows = torch.cat([inputs, torch.ones(100, 1)], dim=1).double()
    torch.testing.assert_close(found, torch.linalg.lstsq(rows, targets.double()).solution, rtol=1e-4, atol=1e-5)


def test_a_strong_ridge_keeps_the_old_weights() -> None:
    torch.manual_seed(0)
    inputs, targets, old = torch.randn(100, 5), torch.randn(100, 3), torch.randn(6, 3).double()
    found = moments_of(inputs, targets).solve(old, 1e9)
    torch.testing.assert_close(found[:-1], old[:-1], rtol=1e-4, atol=1e-4)  # and the intercept is free


def test_the_error_is_the_mean_square_over_rows() -> None:
    torch.manual_seed(0)
    inputs, targets, solution = torch.randn(100, 5), torch.randn(100, 3), torch.randn(6, 3).double()
    rows = torch.cat([inputs, torch.ones(100, 1)], dim=1).double()
    expected = (rows @ solution - targets.double()).square().sum(1).mean()
    assert moments_of(inputs, targets).error(solution) == pytest.approx(float(expected), rel=1e-5)


def test_a_fit_that_is_no_better_on_held_out_rows_is_refused() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 3)
    before = copy.deepcopy(linear.state_dict())
    inputs = torch.randn(100, 5)
    held_out = moments_of(inputs, linear(inputs).detach())  # the old weights are right
    errors = refit(linear, moments_of(inputs, torch.randn(100, 3)), held_out)
    assert errors == pytest.approx((0, 0), abs=1e-5)  # rounding of the sums
    torch.testing.assert_close(linear.state_dict(), before, rtol=1e-3, atol=1e-3)


def batches(family: str, count: int = 6) -> list[Any]:
    """Batches of tiny sentences of many lengths."""
    model, data = tiny.make_model(family), tiny.encoded(family, count=24)
    return [to_tensors(data.batch(range(start, 24, count)), model, CPU) for start in range(count)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_that_lost_nothing_is_left_as_it_is(family: str) -> None:
    teacher, student = tiny.make_model(family), tiny.make_model(family)
    before = copy.deepcopy(student.state_dict())
    report = reconstruct(student, Teacher(teacher, batches(family)))
    assert len(report) == tiny.LAYERS
    assert max(errors["ffn_before"] for errors in report) < 1e-5
    torch.testing.assert_close(student.state_dict(), before, rtol=1e-3, atol=1e-3)


def test_a_neuron_is_replaced_by_its_twin(family: str) -> None:
    """Two neurons that compute the same: without one of them, the fit gives its weight to the other, exactly."""
    teacher = tiny.make_model(family)
    with torch.no_grad():
        for layer in encoder_layers(teacher):
            layer.ffn_in.weight[1] = layer.ffn_in.weight[0]
            layer.ffn_in.bias[1] = layer.ffn_in.bias[0]
    student = copy.deepcopy(teacher)
    slice_model(student, [Kept(list(range(tiny.HEADS)), [i for i in range(tiny.FFN) if i != 1])] * tiny.LAYERS)
    inputs = batches(family)
    with torch.no_grad():
        wanted, lost = teacher(**inputs[1]).logits, student(**inputs[1]).logits
        report = reconstruct(student, Teacher(teacher, inputs))
        found = student(**inputs[1]).logits
    assert all(errors["ffn_after"] < 0.05 * errors["ffn_before"] for errors in report[:1])
    assert (found - wanted).abs().mean() < 0.2 * (lost - wanted).abs().mean()


def test_kept_sums_fit_as_those_computed_anew(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fit takes the teacher's sums from memory, in half precision; without room it computes them again."""
    kept = [Kept([0, 3], list(range(0, 64, 2)))] * tiny.LAYERS
    teacher = Teacher(tiny.make_model(family), batches(family))
    states = []
    for room in (1 << 30, 1 << 30, 0):
        monkeypatch.setattr(module, "KEPT_BYTES", room)
        teacher = teacher if room else Teacher(tiny.make_model(family), batches(family))
        student = tiny.make_model(family)
        slice_model(student, kept)
        reconstruct(student, teacher)
        states.append(student.state_dict())
    torch.testing.assert_close(states[0], states[2], rtol=0, atol=0)
    torch.testing.assert_close(states[1], states[0], rtol=0.1, atol=2e-2)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_errors_never_rise_and_gone_sublayers_are_fitted_too(family: str) -> None:
    teacher = tiny.make_model(family)
    student = copy.deepcopy(teacher)
    slice_model(student, [Kept([0, 3], list(range(0, 64, 2))), Kept([], [2, 40]), Kept([1], [])])
    calls: list[int] = []
    report = reconstruct(student, Teacher(teacher, batches(family)), advance=lambda: calls.append(1))
    assert len(calls) == tiny.LAYERS
    for errors in report:
        assert errors["attention_after"] <= errors["attention_before"]
        assert errors["ffn_after"] <= errors["ffn_before"]
    assert report[0]["ffn_after"] < report[0]["ffn_before"]
