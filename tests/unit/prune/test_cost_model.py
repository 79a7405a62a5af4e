"""Predictions, measurements, and the correction of the one by the other."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune.cost_model import CostModel
from compress.prune.costs import counted_costs
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.unit.prune.fakes import FakeClock, fake_cost, rough_costs


def pruned(ffn: int) -> Any:
    """Return a tiny model with `ffn` neurons a layer."""
    model = copy.deepcopy(tiny.make_model())
    slice_model(model, [Kept(list(range(tiny.HEADS)), list(range(ffn)))] * tiny.LAYERS)
    return model


def model_of(unit: Any = "time") -> CostModel:
    dense = model_shape(tiny.make_model())
    costs = rough_costs(dense) if unit == "time" else counted_costs(dense, unit, 20)
    return CostModel(dense, unit, 20, costs, FakeClock(dense))


def test_a_prediction_is_the_ratio_of_costs() -> None:
    cost_model, shape = model_of(), model_shape(pruned(16))
    assert cost_model.predicted(shape) == cost_model.costs.total(cost_model.dense) / cost_model.costs.total(shape)
    assert cost_model.predicted(cost_model.dense) == 1.0
    assert cost_model.dense_ms == pytest.approx(1e-3 * fake_cost(cost_model.dense))


def test_a_measured_model_corrects_the_predictions_after_it() -> None:
    cost_model, first, second = model_of(), pruned(32), pruned(16)
    shape, other = model_shape(first), model_shape(second)
    before = cost_model.expected(shape)
    assert before == cost_model.predicted(shape)
    measured, _ = cost_model.calibrated(first)
    correction = measured / cost_model.predicted(shape)
    assert correction != 1.0
    assert cost_model.expected(shape) == before  # as it was before the model was timed
    assert cost_model.expected(other) == pytest.approx(correction * cost_model.predicted(other))
    actual = fake_cost(cost_model.dense) / fake_cost(other)
    assert abs(cost_model.expected(other) / actual - 1) < abs(cost_model.predicted(other) / actual - 1)


def test_a_plain_measurement_corrects_nothing() -> None:
    cost_model = model_of()
    cost_model.measured(pruned(32))
    assert cost_model.correction == 1.0


def test_counted_costs_are_not_corrected() -> None:
    """FLOPs are what they are; a clock says nothing about them."""
    cost_model, other = model_of("flops"), model_shape(pruned(16))
    cost_model.calibrated(pruned(32))
    assert cost_model.correction != 1.0
    assert cost_model.expected(other) == cost_model.predicted(other)


@pytest.mark.parametrize(("unit", "size"), [("time", Shape.flops), ("flops", Shape.flops), ("params", Shape.params)])
def test_a_model_of_another_width_is_predicted_by_its_size(unit: Any, size: Any) -> None:
    """The costs are those of heads and neurons: they would call a narrow model as slow as the wide one."""
    dense = Shape(32, 8, (LayerShape(4, 64),) * 2)
    narrow = replace(dense, hidden=16)
    cost_model = CostModel(dense, unit, 10, counted_costs(dense, "flops", 10), FakeClock(dense))
    sizes = [shape.params() if unit == "params" else size(shape, 10) for shape in (dense, narrow)]
    assert [cost_model.size(dense), cost_model.size(narrow)] == sizes
    assert cost_model.predicted(narrow) == pytest.approx(sizes[0] / sizes[1])
    assert cost_model.predicted(narrow) > 1.5
