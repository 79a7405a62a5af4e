"""Targets from settings."""

from __future__ import annotations

from typing import Any

import pytest

from compress.core.errors import UsageError
from compress.models.shape import LayerShape, Shape
from compress.prune.cost_model import CostModel
from compress.prune.costs import counted_costs
from compress.prune.targets import PruneTarget, smallest_shape, targets_of
from compress.settings import PruneSettings
from tests.unit.prune.fakes import FakeClock, fake_cost, rough_costs

DENSE = Shape(32, 8, (LayerShape(4, 64),) * 3)


def targets(unit: Any = "time", **settings: Any) -> list[PruneTarget]:
    costs = rough_costs(DENSE) if unit == "time" else counted_costs(DENSE, unit, 20)
    cost_model = CostModel(DENSE, unit, 20, costs, FakeClock(DENSE), "a fake clock")
    return targets_of(PruneSettings(**settings), cost_model, "model")


def test_a_share_is_a_budget() -> None:
    assert targets("flops", target_flops=0.5) == [PruneTarget("0.5", 0.5 * DENSE.flops(20), share=0.5)]


def test_speedups_come_in_order_once_each() -> None:
    found = targets(target_speedup=[3.0, 1.5, 3.0])
    assert [(target.name, target.speedup, target.share) for target in found] == [("1.5x", 1.5, None), ("3x", 3.0, None)]
    assert found[0].budget == 2 * found[1].budget


def test_a_latency_is_a_speedup_on_this_machine() -> None:
    dense_ms = 1e-3 * fake_cost(DENSE)
    (target,) = targets(target_latency_ms=dense_ms / 2)
    assert target.speedup == pytest.approx(2)
    with pytest.raises(UsageError, match=rf"takes {dense_ms:.2f} ms already \(a fake clock\)"):
        targets(target_latency_ms=dense_ms)


@pytest.mark.parametrize(("uniform", "remainder"), [(False, "a single head"), (True, "one layer of 16 neurons")])
def test_a_speedup_beyond_the_smallest_model_is_refused(uniform: bool, remainder: str) -> None:
    costs = rough_costs(DENSE)
    limit = costs.total(DENSE) / costs.total(smallest_shape(DENSE, uniform))
    assert targets(target_speedup=0.999 * limit, uniform=uniform)
    with pytest.raises(UsageError, match=f"out of reach: with {remainder} left"):
        targets(target_speedup=1.001 * limit, uniform=uniform)


def test_coarse_methods_find_out_by_themselves() -> None:
    assert targets(target_speedup=99.0, method="layers")


def test_the_smallest_shapes() -> None:
    assert smallest_shape(DENSE, False).layers == (LayerShape(1, 0), LayerShape(0, 0), LayerShape(0, 0))
    assert smallest_shape(DENSE, True).layers == (LayerShape(4, 16),)


def test_the_smallest_shape_of_shared_layers_has_a_head_in_the_group_with_the_fewest() -> None:
    shared = Shape(32, 8, (LayerShape(4, 64),) * 3, shared=(0, 0, 2))
    assert smallest_shape(shared, False).layers == (LayerShape(0, 0), LayerShape(0, 0), LayerShape(1, 0))
    assert smallest_shape(shared, True) == Shape(32, 8, (LayerShape(4, 16),))
