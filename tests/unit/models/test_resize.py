"""Layers of other sizes, without weights of their own yet."""

from __future__ import annotations

import torch

from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.resize import NoHeads, resize
from compress.models.shape import LayerShape, Shape
from tests import tiny


def test_a_model_takes_any_shape(family: str) -> None:
    model = tiny.make_model(family)
    size = model_shape(model).head_size
    shape = Shape(tiny.HIDDEN, size, (LayerShape(2, 5), LayerShape(0, 64), LayerShape(1, 0)))
    resize(model, shape)
    assert model_shape(model) == shape
    assert model.config.compress["layers"] == [{"heads": 2, "ffn": 5}, {"heads": 0, "ffn": 64}, {"heads": 1, "ffn": 0}]
    first, second, _ = encoder_layers(model)
    assert first.query is not None
    assert first.query.weight.shape == (2 * size, tiny.HIDDEN)
    assert second.query is None
    assert second.attention_output.weight.shape == (tiny.HIDDEN, 0)


def test_without_heads_the_context_is_empty() -> None:
    context, weights = NoHeads()(torch.ones(2, 7, tiny.HIDDEN), attention_mask=None)
    assert context.shape == (2, 7, 0)
    assert weights is None
