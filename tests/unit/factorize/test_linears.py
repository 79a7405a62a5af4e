"""Linears are replaced by factors that lose least by the method's measure."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.examples import Examples
from compress.editing.calibration import Calibration
from compress.factorize.linears import factorize_linears
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.low_rank import encoder_linears, is_factorized
from compress.models.model_shape import model_shape
from compress.settings import FactorizeSettings
from tests import tiny

METHODS = ("fisher", "activations", "plain")


def factorized(model: Any, data: Any, **fields: Any) -> Any:
    """Return a copy with factorized linears."""
    small = copy.deepcopy(model)
    calibration = Calibration(Examples([], np.zeros(0)), data, True, "class", 0)
    settings = FactorizeSettings.model_validate({"device": "cpu", **fields})
    factorize_linears(small, model_shape(model), calibration, settings, 16)
    return small


def test_a_rank_that_the_weights_have_changes_nothing(family: str) -> None:
    """Of weights of rank one, that is; factors of more ranks lose nothing by any method."""
    model, data = tiny.make_model(family), tiny.encoded(family, 20)
    with torch.no_grad():
        for _, _, linear in encoder_linears(model):
            linear.weight.copy_(linear.weight[:, :1] @ linear.weight[:1])  # of rank one
    expected = run_batches(torch_forward(model), data)
    for method in METHODS:
        small = factorized(model, data, method=method, rank=3)
        assert is_factorized(small)
        np.testing.assert_allclose(run_batches(torch_forward(small), data), expected, atol=1e-4)


def test_what_texts_show_is_kept_better_than_by_plain_factors(family: str) -> None:
    model, data = tiny.make_model(family), tiny.encoded(family, 60)
    expected, errors = run_batches(torch_forward(model), data), {}
    for method in METHODS:
        small = factorized(model, data, method=method, rank=9)
        errors[method] = float(np.abs(run_batches(torch_forward(small), data) - expected).mean())
    assert errors["activations"] < errors["plain"]
    assert errors["fisher"] < errors["plain"]


@pytest.mark.parametrize("target", ["target_flops", "target_params"])
def test_linears_of_shared_layers_have_the_same_factors(target: str) -> None:
    model, data = tiny.make_model("albert", num_hidden_layers=4, num_hidden_groups=2), tiny.encoded("albert", 20)
    small = factorized(model, data, method="activations", **{target: 0.7})
    before, after = model_shape(model), model_shape(small)
    assert (after.shared, after.layers[0], after.layers[2]) == (before.shared, after.layers[1], after.layers[3])
    kept = {"target_flops": after.flops(16) / before.flops(16), "target_params": after.params() / before.params()}
    assert 0.6 < kept[target] <= 0.7
