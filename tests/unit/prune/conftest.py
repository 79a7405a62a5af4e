"""A clock that does not depend on the machine."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

from compress.model.checkpoint import model_shape
from compress.prune.search import counted_costs
from compress.prune.table import Serving

module = importlib.import_module("compress.prune.structured")


@pytest.fixture
def flops_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that counts FLOPs, not quite in proportion, and a fixed part; the latency table knows it only roughly."""

    def cost(shape: Any) -> float:
        return 2000.0 + shape.flops(20) ** 0.95

    def speedup(before: Any, after: Any, batch: Any) -> tuple[float, list[float]]:
        ratio = cost(before) / cost(after)
        return ratio, [ratio, ratio]

    def table(model: Any, serving: Any) -> Any:
        costs = counted_costs(model_shape(model), "flops", 20)
        return replace(costs, fixed=2000.0)

    monkeypatch.setattr(Serving, "open", lambda serving, model: model_shape(model))
    monkeypatch.setattr(module, "quick_speedup", speedup)
    monkeypatch.setattr(module, "seconds_of", lambda shape, batch: cost(shape) * 1e-6)
    monkeypatch.setattr(module, "latency_table", table)
