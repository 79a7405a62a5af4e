"""Shapes of models in memory and in their configs."""

from __future__ import annotations

from compress.models.model_shape import count_params, model_shape, record_shape
from compress.models.shape import CONFIG_KEY, LayerShape, Shape, config_entry, shape_of_config
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

KEPT = [Kept([0, 3], [1, 2, 3]), Kept([], [5]), Kept([1], [])]


def test_uniform_shapes_that_the_config_says_need_no_entry() -> None:
    model = tiny.make_model()
    setattr(model.config, CONFIG_KEY, {"stale": True})
    record_shape(model, model_shape(tiny.make_model()))
    assert not hasattr(model.config, CONFIG_KEY)


def test_model_shape_and_parameter_count() -> None:
    model = tiny.make_model()
    assert model_shape(model) == Shape(tiny.HIDDEN, tiny.HEAD_SIZE, (LayerShape(tiny.HEADS, tiny.FFN),) * tiny.LAYERS)
    before = count_params(model)
    slice_model(model, KEPT)
    heads, neurons = 3 * tiny.HEADS - 3, 3 * tiny.FFN - 4
    assert before - count_params(model) == heads * tiny.HEAD_SIZE * (4 * tiny.HIDDEN + 3) + neurons * (2 * tiny.HIDDEN + 1)


def test_shape_survives_the_config(family: str) -> None:
    model = tiny.make_model(family)
    assert shape_of_config(model.config.to_dict()) == model_shape(model)
    slice_model(model, KEPT)
    record_shape(model, model_shape(model))
    assert getattr(model.config, CONFIG_KEY) == config_entry(model_shape(model))
    assert shape_of_config(model.config.to_dict()) == model_shape(model)
