"""What models cost in the unit of the target: predicted from their shapes, measured on the clock, and corrected by that."""

from __future__ import annotations

from typing import Literal, Protocol

from compress.models.model_shape import model_shape
from compress.models.shape import Shape
from compress.models.types import TransformersModel
from compress.prune.costs import Costs

CostUnit = Literal["time", "flops", "params"]
SpeedupInterval = tuple[float, list[float]]  # a ratio of times, and its 95 % interval


class Clock(Protocol):
    """Measures the latency of the dense model, and how much faster other models are."""

    @property
    def seconds(self) -> float:
        """The dense model's median seconds of a batch."""
        ...

    def speedup(self, model: TransformersModel) -> SpeedupInterval:
        """Return the measured speedup of a model over the dense one."""
        ...


class CostModel:
    """Predicts and measures what models cost.

    The costs of sublayers predict a model's speedup; each model that is timed shows how far they are off, and corrects the
    predictions of the models after it.

    Args:
        dense: the dense model's shape.
        unit: what the target counts.
        seq_len: tokens of a text, for FLOPs.
        costs: of the sublayers, in this unit.
        clock: times models.
        conditions: how models are timed, for messages.
    """

    def __init__(self, dense: Shape, unit: CostUnit, seq_len: int, costs: Costs, clock: Clock, conditions: str = "") -> None:
        self.dense, self.unit, self.seq_len = dense, unit, seq_len
        self.costs, self.clock, self.conditions = costs, clock, conditions
        self.dense_cost = costs.total(dense)
        self.correction = 1.0  # measured over predicted speedup of the last model that was timed
        self._expected: dict[Shape, float] = {}

    @property
    def dense_ms(self) -> float:
        """The dense model's median latency in milliseconds."""
        return 1e3 * self.clock.seconds

    def size(self, shape: Shape) -> int:
        """Return the encoder's parameters if these are the target, or else its FLOPs; unlike the costs, for any width."""
        return shape.params() if self.unit == "params" else shape.flops(self.seq_len)

    def predicted(self, shape: Shape) -> float:
        """Return the speedup that the costs predict for a shape; for another hidden width, which they do not cover, by its size."""
        if shape.hidden != self.dense.hidden:
            return self.size(self.dense) / self.size(shape)
        return self.dense_cost / self.costs.total(shape)

    def expected(self, shape: Shape) -> float:
        """Return the corrected prediction for a shape, as it was when first requested: before the shape itself was timed."""
        correction = self.correction if self.unit == "time" else 1.0
        return self._expected.setdefault(shape, self.predicted(shape) * correction)

    def measured(self, model: TransformersModel) -> SpeedupInterval:
        """Return the measured speedup of a model over the dense one, with its 95 % interval; corrects no prediction."""
        return self.clock.speedup(model)

    def calibrated(self, model: TransformersModel) -> SpeedupInterval:
        """Measure as `measured` does, and correct the predictions of later models by the outcome."""
        shape = model_shape(model)
        self.expected(shape)  # remembered before the outcome can change it
        speedup = self.clock.speedup(model)
        self.correction = speedup[0] / self.predicted(shape)
        return speedup
