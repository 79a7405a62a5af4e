"""A clock that does not depend on the machine, and runs of the stage that use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from compress.data.presets import resolve
from compress.data.task import Task
from compress.models.model_shape import model_shape
from compress.models.shape import Shape
from compress.prune import prune_to_targets
from compress.prune.context import PruneContext
from compress.prune.cost_model import CostModel
from compress.prune.costs import counted_costs
from compress.settings import PruneSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]
FIXED = 2000.0


def fake_cost(shape: Shape) -> float:
    """What the fake clock counts: FLOPs, not quite in proportion, and a fixed part."""
    return FIXED + shape.flops(20) ** 0.95


class FakeClock:
    """A clock that counts FLOPs; `timed` holds the shapes that it timed."""

    def __init__(self, dense: Shape) -> None:
        self.dense = dense
        self.timed: list[Shape] = []

    @property
    def seconds(self) -> float:
        """A microsecond for each unit of cost."""
        return fake_cost(self.dense) * 1e-6

    def speedup(self, model: Any) -> tuple[float, list[float]]:
        """Return the ratio of costs, with an empty interval around it."""
        self.timed.append(model_shape(model))
        ratio = fake_cost(self.dense) / fake_cost(model_shape(model))
        return ratio, [ratio, ratio]


def fake_cost_model(context: PruneContext) -> CostModel:
    """Return a cost model on a fake clock; for a target of time, costs that know this clock only roughly."""
    settings, dense = context.settings, context.dense.shape
    unit = "flops" if settings.target_flops else "params" if settings.target_params else "time"
    costs = rough_costs(dense) if unit == "time" else counted_costs(dense, unit, context.seq_len)
    return CostModel(dense, unit, context.seq_len, costs, FakeClock(dense), "a fake clock")


def rough_costs(dense: Shape) -> Any:
    """Return costs in proportion to FLOPs, with the fixed part."""
    return replace(counted_costs(dense, "flops", 20), fixed=FIXED)


def context_of(source: Path, document: dict[str, Any], seed: int = 0, **settings: Any) -> PruneContext:
    """Return the context of a run on the CPU; the methods that read texts calibrate on a few."""
    method = settings.get("method", "obs")
    defaults = ({} if method == "vocab" else {"device": "cpu"}) | (
        {} if method in ("vocab", "magnitude", "random") else {"calib_samples": 24}
    )
    return PruneContext(Inputs({"model": source}, seed, Task(resolve(document))), PruneSettings(**{**defaults, **settings}))


def run(source: Path, document: dict[str, Any], output: Path, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Run the stage on the fake clock."""
    output.mkdir()
    context = context_of(source, document, seed, **settings)
    return prune_to_targets(context, fake_cost_model(context), output)


def context_without_validation(source: Path, document: dict[str, Any], folder: Path) -> PruneContext:
    """Return the context of a task that has unlabeled texts and a test split only."""
    (folder / "texts.txt").write_text("\n".join(text for text, _ in tiny.sentences(40)), encoding="utf-8")
    task = {key: value for key, value in document.items() if key not in ("train", "validation")}
    return context_of(source, task, target_flops=0.5, unlabeled=str(folder / "texts.txt"))
