"""Costs of shapes."""

from __future__ import annotations

import numpy as np

from compress.models.shape import LayerShape, Shape
from compress.prune.costs import Costs, counted_costs


def test_counted_costs_add_up_to_the_shape() -> None:
    shape = Shape(32, 8, (LayerShape(4, 64), LayerShape(1, 7)))
    assert counted_costs(shape, "flops", 17).total(shape) == shape.flops(17)
    assert counted_costs(shape, "params", 17).total(shape) == shape.params() - 2 * 2 * 32  # the output biases stay


def test_layers_after_the_last_attention_cost_what_one_token_does() -> None:
    costs = Costs(np.array([1.0, 11.0]), np.array([2.0, 22.0]), 100.0, (np.array([0.1, 1.1]), np.array([0.2, 2.2])))
    layers = (LayerShape(1, 1), LayerShape(1, 0), LayerShape(0, 1))
    assert costs.total(Shape(8, 8, layers)) == 100 + (11 + 22) + (1.1 + 0.2) + (0.1 + 2.2)
    assert costs.total(Shape(8, 8, (LayerShape(0, 1),))) == 100 + 0.1 + 2.2  # without any attention


def test_shared_parameters_cost_once() -> None:
    shape = Shape(32, 8, (LayerShape(4, 64),) * 3, shared=(0, 0, 2))
    assert counted_costs(shape, "flops", 17).total(shape) == shape.flops(17)
    assert counted_costs(shape, "params", 17).total(shape) == shape.params() - 2 * 2 * 32
