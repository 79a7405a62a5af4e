"""Biases of output projections that move into the norm below."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.export.weights import LinearWeights, encoder_weights
from compress.models.layers import encoder_layers
from tests import tiny


def test_what_is_added_below_is_taken_off_above() -> None:
    module = torch.nn.Linear(4, 3)
    linear, rows, shift = LinearWeights.of(module), np.random.default_rng(0).normal(size=(5, 4)), np.arange(4.0)
    (weight,) = linear.factors
    expected = rows @ weight + linear.bias
    linear.unshift(shift)
    np.testing.assert_allclose((rows + shift) @ weight + linear.bias, expected)


def test_the_model_keeps_its_own_biases(family: str) -> None:
    model = tiny.make_model(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    encoder_weights(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("number", range(tiny.LAYERS))
def test_a_norm_takes_the_bias_of_the_projection_above(number: int) -> None:
    model = tiny.make_model()
    found, layer = encoder_weights(model).blocks[number], list(encoder_layers(model))[number]
    moved = layer.attention_norm.bias + layer.ffn_out.bias
    np.testing.assert_allclose(found.attention_norm.bias, moved.detach().numpy(), rtol=1e-6)
    assert found.inner is not None
    kept = layer.ffn_in.bias - layer.ffn_in.weight @ layer.ffn_out.bias
    np.testing.assert_allclose(found.inner.bias, kept.detach().numpy(), rtol=1e-4, atol=1e-6)
