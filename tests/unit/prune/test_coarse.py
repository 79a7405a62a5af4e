"""Whole layers and width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import UsageError
from compress.models.checkpoint import load_model
from compress.models.model_shape import model_shape
from compress.prune.coarse import CoarsePruning
from tests import tiny
from tests.conftest import FAMILIES
from tests.pairwise import pairwise
from tests.unit.prune.fakes import Maker, context_of, fake_cost, fake_cost_model, run


@pytest.mark.parametrize(
    ("family", "target", "method"),
    pairwise(FAMILIES, [{"target_flops": 0.6}, {"target_params": 0.6}, {"max_drop": 100.0}], ["layers", "hidden"]),
)
def test_the_largest_model_that_reaches_the_target(
    tiny_task: dict[str, Any], checkpoint: Maker, family: str, method: str, target: dict[str, float], tmp_path: Path
) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", method=method, seq_len=20, **target)
    shape, dense = model_shape(load_model(tmp_path / "out")), model_shape(tiny.make_model(family))
    if "max_drop" in target:  # everything may be removed, so everything is
        assert len(shape.layers) == 1 if method == "layers" else shape.hidden == 16
    else:
        kept = shape.params() / dense.params() if "target_params" in target else shape.flops(20) / dense.flops(20)
        assert 0.2 < kept <= 0.6
        assert len(shape.layers) == 1 if method == "layers" else shape.hidden == 16  # two layers of three would be too many
    assert (len(shape.layers) < tiny.LAYERS) == (method == "layers")
    assert (shape.hidden < tiny.HIDDEN) == (method == "hidden")
    assert result["layers"] == shape.as_json()


@pytest.mark.parametrize(("speedup", "layers"), [(1.2, 2), (2.0, 1)])
def test_a_speedup_is_measured_not_predicted(
    tiny_task: dict[str, Any], checkpoint: Maker, speedup: float, layers: int, tmp_path: Path
) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", method="layers", target_speedup=speedup)
    shape, dense = model_shape(load_model(tmp_path / "out")), model_shape(tiny.make_model())
    assert len(shape.layers) == layers
    assert result["measured_speedup"] == pytest.approx(fake_cost(dense) / fake_cost(shape), abs=1e-3)
    assert result["measured_speedup"] >= speedup


def test_one_model_may_reach_two_targets(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", method="layers", target_speedup=[1.1, 1.2])
    assert [len(model["layers"]) for model in result["models"]] == [2, 2]


def test_a_target_beyond_the_smallest_model_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="method layers does not reach 50x"):
        run(checkpoint(), tiny_task, tmp_path / "out", method="layers", target_speedup=50.0)


def test_a_model_outside_of_the_accuracy_budget_ends_the_search(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, method="layers", max_drop=1.0)
    strategy = CoarsePruning(context, fake_cost_model(context))
    first = strategy.smaller(None, 0)
    assert first is not None
    assert len(model_shape(first.model).layers) == 2
    assert strategy.smaller(first, 1) is None


def test_layers_remember_the_positions_that_they_had(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, method="layers", max_drop=1.0)
    candidate = CoarsePruning(context, fake_cost_model(context)).smaller(None, 0)
    assert candidate is not None
    origins = context.origins(candidate.model)
    assert len(origins) == 2
    assert set(origins) < {0, 1, 2}
