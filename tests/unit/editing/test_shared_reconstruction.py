"""Least squares over all uses of shared layers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.sharing import owners_of, share_parameters
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.unit.models.edge_batches import calibration

GROUPINGS: list[dict[str, Any]] = [
    {},
    {"num_hidden_layers": 4, "num_hidden_groups": 2},
    {"num_hidden_layers": 2, "inner_group_num": 2},  # two layers that share with each other's neighbours
]


def total(report: list[dict[str, float]], name: str) -> float:
    """The errors of all sublayers before or after the fits."""
    return sum(errors[f"{sublayer}_{name}"] for errors in report for sublayer in ("attention", "ffn"))


@pytest.mark.parametrize("changes", GROUPINGS, ids=str)
def test_the_outputs_come_back(changes: dict[str, Any]) -> None:
    dense = tiny.make_model("albert", **changes)
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 1, 2], list(range(50)))] * len(model_shape(dense).layers))
    parts, before, calls = calibration("albert", dense, 40), copy.deepcopy(model), []
    report = reconstruct(model, DenseTargets(dense, parts), advance=lambda: calls.append(1))
    assert len(report) == len(calls) == len(model_shape(dense).layers)
    assert owners_of(model) == owners_of(dense)
    assert total(report, "after") < total(report, "before")
    with torch.no_grad():
        gap = [sum(float((cut(**part).logits - dense(**part).logits).square().sum()) for part in parts) for cut in (before, model)]
    assert gap[1] < gap[0]


def test_a_model_without_losses_stays_the_same() -> None:
    dense, model = tiny.make_model("albert"), tiny.make_model("albert")
    report = reconstruct(model, DenseTargets(dense, calibration("albert", dense, 24)))
    assert total(report, "before") < 1e-2  # targets are held in half precision
    assert total(report, "after") <= total(report, "before")
    torch.testing.assert_close(model.state_dict(), dense.state_dict(), rtol=1e-2, atol=1e-2)


def test_layers_that_share_after_a_refit_got_the_same_biases() -> None:
    """ModernBERT has no biases: a fit adds one to every use."""
    dense = tiny.make_model("modernbert")
    share_parameters(dense, (0, 1, 1))
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 1], list(range(40)))] * tiny.LAYERS)
    reconstruct(model, DenseTargets(dense, calibration("modernbert", dense, 24)))
    assert owners_of(model) == (0, 1, 1)
    assert [layer.ffn_out.bias is None for layer in encoder_layers(model)][1:] in ([True, True], [False, False])
