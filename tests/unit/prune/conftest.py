"""A clock that does not depend on the machine."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

from compress.models.model_shape import model_shape
from compress.prune.search import counted_costs

module = importlib.import_module("compress.prune.structured")


@pytest.fixture
def flops_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that counts FLOPs, not quite in proportion, and a fixed part; the latency table knows it only roughly."""

    def cost(shape: Any) -> float:
        return 2000.0 + shape.flops(20) ** 0.95

    class Flops:
        """A clock of FLOPs."""

        def __init__(self, model: Any, serving: Any, seed: int = 0) -> None:
            self.cost = cost(model_shape(model))
            self.seconds = self.cost * 1e-6

        def speedup(self, model: Any) -> tuple[float, list[float]]:
            ratio = self.cost / cost(model_shape(model))
            return ratio, [ratio, ratio]

    def table(model: Any, serving: Any) -> Any:
        costs = counted_costs(model_shape(model), "flops", 20)
        return replace(costs, fixed=2000.0)

    monkeypatch.setattr(module, "Clock", Flops)
    monkeypatch.setattr(module, "latency_table", table)
