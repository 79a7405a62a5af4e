"""Reconstruction where the result is known: a neuron whose twin is kept is replaced exactly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from compress.editing import reconstruction as module
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

CPU = torch.device("cpu")


def batches(family: str, count: int = 6) -> list[Any]:
    """Return batches of tiny sentences of many lengths."""
    model, data = tiny.make_model(family), tiny.encoded(family, count=24)
    return [to_tensors(data.batch(range(start, 24, count)), model, CPU) for start in range(count)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_without_losses_stays_the_same(family: str) -> None:
    dense, model = tiny.make_model(family), tiny.make_model(family)
    before = copy.deepcopy(model.state_dict())
    report = reconstruct(model, DenseTargets(dense, batches(family)))
    assert len(report) == tiny.LAYERS
    assert max(errors["ffn_before"] for errors in report) < 1e-5
    torch.testing.assert_close(model.state_dict(), before, rtol=1e-3, atol=1e-3)


def test_a_neuron_is_replaced_by_its_twin(family: str) -> None:
    """Two neurons that compute the same: without one of them, the fit gives its weight to the other, exactly."""
    dense = tiny.make_model(family)
    with torch.no_grad():
        for layer in encoder_layers(dense):
            layer.ffn_in.weight[1] = layer.ffn_in.weight[0]
            layer.ffn_in.bias[1] = layer.ffn_in.bias[0]
    model = copy.deepcopy(dense)
    slice_model(model, [Kept(list(range(tiny.HEADS)), [i for i in range(tiny.FFN) if i != 1])] * tiny.LAYERS)
    inputs = batches(family)
    with torch.no_grad():
        expected, lost = dense(**inputs[1]).logits, model(**inputs[1]).logits
        report = reconstruct(model, DenseTargets(dense, inputs))
        result = model(**inputs[1]).logits
    assert all(errors["ffn_after"] < 0.05 * errors["ffn_before"] for errors in report[:1])
    assert (result - expected).abs().mean() < 0.2 * (lost - expected).abs().mean()


def test_cached_targets_equal_recomputed_ones(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fit reads the targets from the cache, in half precision; without room they are computed again."""
    kept = [Kept([0, 3], list(range(0, 64, 2)))] * tiny.LAYERS
    dense = DenseTargets(tiny.make_model(family), batches(family))
    states = []
    for room in (1 << 30, 1 << 30, 0):
        monkeypatch.setattr(module, "CACHED_BYTES", room)
        dense = dense if room else DenseTargets(tiny.make_model(family), batches(family))
        model = tiny.make_model(family)
        slice_model(model, kept)
        reconstruct(model, dense)
        states.append(model.state_dict())
    torch.testing.assert_close(states[0], states[2], rtol=0, atol=0)
    torch.testing.assert_close(states[1], states[0], rtol=0.1, atol=2e-2)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_errors_never_rise_and_removed_sublayers_are_fitted_too(family: str) -> None:
    dense = tiny.make_model(family)
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 3], list(range(0, 64, 2))), Kept([], [2, 40]), Kept([1], [])])
    calls: list[int] = []
    report = reconstruct(model, DenseTargets(dense, batches(family)), advance=lambda: calls.append(1))
    assert len(calls) == tiny.LAYERS
    for errors in report:
        assert errors["attention_after"] <= errors["attention_before"]
        assert errors["ffn_after"] <= errors["ffn_before"]
    assert report[0]["ffn_after"] < report[0]["ffn_before"]
