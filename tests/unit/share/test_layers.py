"""Layers that share weights, and what that changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.models.model_shape import count_params
from compress.models.sharing import owners_of
from compress.share.layers import logits_change, share_layers
from tests import tiny


@pytest.mark.parametrize("how", ["mean", "first", "last"])
def test_a_group_gets_the_mean_or_one_layer(family: str, how: Any) -> None:
    model, before = tiny.make_model(family), [dict(layer.module.named_parameters()) for layer in encoder_layers(tiny.make_model(family))]
    share_layers(model, (0, 0, 2), how)
    for name, parameter in next(encoder_layers(model)).module.named_parameters():
        first, second = before[0][name], before[1][name]
        torch.testing.assert_close(parameter, {"mean": (first + second) / 2, "first": first, "last": second}[how])
    for name, parameter in list(encoder_layers(model))[2].module.named_parameters():
        assert torch.equal(parameter, before[2][name])
    assert owners_of(model) == (0, 0, 2)


@pytest.mark.parametrize("how", ["mean", "first", "last"])
def test_equal_layers_share_without_a_loss(family: str, how: Any) -> None:
    model, data = tiny.make_model(family), tiny.encoded(family)
    first, second, _ = encoder_layers(model)
    second.module.load_state_dict(first.module.state_dict())
    expected, params = run_batches(torch_forward(model), data), count_params(model)
    share_layers(model, (0, 0, 2), how)
    np.testing.assert_allclose(run_batches(torch_forward(model), data), expected, atol=1e-6)
    assert count_params(model) < params


def test_the_found_groups_change_the_answers_least() -> None:
    model, data = tiny.make_model(), tiny.encoded()
    batches = [to_tensors(data.batch(range(12)), model, torch.device("cpu"))]
    loss_of = logits_change(model, batches, "first")
    assert loss_of((0, 1, 2)) == 0
    _, second, third = encoder_layers(model)
    third.module.load_state_dict(second.module.state_dict())
    loss_of = logits_change(model, batches, "first")
    assert loss_of((0, 1, 1)) == pytest.approx(0, abs=1e-8)
    assert loss_of((0, 0, 2)) > 1e-4


def test_padding_does_not_change_what_tags_lose() -> None:
    model, data = tiny.make_model(target="tags"), tiny.encoded()
    losses = []
    for pad_to in (None, 60):
        batches = [to_tensors(data.batch(range(12), pad_to), model, torch.device("cpu"))]
        losses.append(logits_change(model, batches, "mean")((0, 0, 2)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
