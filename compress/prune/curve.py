"""The curve of a run: the models on the way to the targets, with their speedups and validation scores."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

from compress.core import console
from compress.models.model_shape import model_shape
from compress.models.shape import Shape
from compress.models.types import TransformersModel
from compress.prune.context import PruneContext
from compress.prune.cost_model import CostModel
from compress.prune.targets import PruneTarget
from compress.results.checkpoints import CurvePoint


@dataclass(frozen=True)
class PruneCandidate:
    """A model on the way to a target, with the errors of its refits."""

    model: TransformersModel
    refits: dict[str, object]


@dataclass(frozen=True)
class Pruned:
    """A model that reached its target.

    Attributes:
        target: the target.
        model: a copy that later steps do not change.
        predicted: speedup that the costs predicted, corrected by the models timed before.
        measured: measured speedup.
        interval: its 95 % interval.
        metrics: on validation; empty without that split.
        refits: the errors of its refits on held-out texts.
    """

    target: PruneTarget
    model: TransformersModel
    predicted: float
    measured: float
    interval: list[float]
    metrics: dict[str, float]
    refits: dict[str, object]


class Curve:
    """Scores and times models, and keeps a point for each.

    Attributes:
        points: a dictionary for each model, with `predicted_speedup`, `score` and `layers`; models that reached a target also
            have `measured_speedup` and `target`, its name.
    """

    def __init__(self, context: PruneContext, cost_model: CostModel) -> None:
        self.context, self.cost_model = context, cost_model
        self.points: list[CurvePoint] = []

    def record(self, model: TransformersModel, limit: int | None = None, timed: bool = False) -> float:
        """Add an intermediate model.

        Args:
            model: the model.
            limit: score it on the first examples of validation only.
            timed: time it, so that predictions for later models are corrected.

        Returns:
            Its score on validation, NaN without that split.
        """
        metrics = self.context.validate(model, limit)
        point = self._point(model, metrics)
        if timed:
            self.cost_model.calibrated(model)
        self.points.append(point)
        if metrics:
            console.info(f"  {self._progress(model_shape(model))}, validation {self.context.main_metric} {100 * point['score']:.2f}")
        return point["score"]

    def finish(self, target: PruneTarget, candidate: PruneCandidate) -> Pruned:
        """Score and time a model that reached its target, and add it."""
        metrics = self.context.validate(candidate.model)
        point = self._point(candidate.model, metrics)
        speedup, interval = self.cost_model.calibrated(candidate.model)
        self.points.append({**point, "measured_speedup": speedup, "target": target.name})
        model = copy.deepcopy(candidate.model)
        return Pruned(target, model, point["predicted_speedup"], speedup, interval, metrics, candidate.refits)

    def _point(self, model: TransformersModel, metrics: dict[str, float]) -> CurvePoint:
        shape = model_shape(model)
        score = metrics.get(self.context.main_metric, math.nan)
        return {"predicted_speedup": self.cost_model.expected(shape), "score": score, "layers": shape.as_json()}

    def _progress(self, shape: Shape) -> str:
        ratio, unit = self.cost_model.expected(shape), self.cost_model.unit
        if unit == "time":
            return f"{ratio:.2f}x (predicted)"
        return f"{100 / ratio:.1f} % of the encoder's {'FLOPs' if unit == 'flops' else 'parameters'}"
