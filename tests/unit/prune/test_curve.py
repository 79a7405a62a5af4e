"""Points of the curve."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

from compress.models.model_shape import model_shape
from compress.prune.curve import Curve, PruneCandidate
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.prune.targets import PruneTarget
from tests import tiny
from tests.unit.prune.fakes import FakeClock, Maker, context_of, context_without_validation, fake_cost, fake_cost_model


@pytest.fixture
def curve(tiny_task: dict[str, Any], checkpoint: Maker) -> Curve:
    context = context_of(checkpoint(), tiny_task, target_speedup=2.0)
    return Curve(context, fake_cost_model(context))


def half(curve: Curve) -> Any:
    """Return a model with half of the units."""
    model = copy.deepcopy(curve.context.dense.model)
    slice_model(model, [Kept([0, 1], list(range(32)))] * tiny.LAYERS)
    return model


def test_a_model_on_the_way_is_timed_only_on_request(curve: Curve) -> None:
    clock = curve.cost_model.clock
    assert isinstance(clock, FakeClock)
    score = curve.record(half(curve), limit=5)
    assert clock.timed == []
    assert curve.record(half(curve), timed=True) == curve.context.validate(half(curve))["accuracy"]
    assert len(clock.timed) == 1
    assert [set(point) for point in curve.points] == [{"predicted_speedup", "score", "layers"}] * 2
    assert curve.points[0]["score"] == score


def test_a_finished_model_is_a_copy_with_its_measurement(curve: Curve) -> None:
    model = half(curve)
    expected = fake_cost(curve.context.dense.shape) / fake_cost(model_shape(model))
    result = curve.finish(PruneTarget("2x", 1.0, speedup=2.0), PruneCandidate(model, {"layers": []}))
    assert result.measured == pytest.approx(expected)
    assert result.predicted == curve.cost_model.predicted(model_shape(model))  # nothing was timed before
    assert result.refits == {"layers": []}
    assert result.model is not model
    assert curve.points[-1]["target"] == "2x"
    assert curve.points[-1]["measured_speedup"] == result.measured


def test_without_validation_scores_are_nan(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    context = context_without_validation(checkpoint(), tiny_task, tmp_path)
    curve = Curve(context, fake_cost_model(context))
    assert math.isnan(curve.record(half(curve)))
