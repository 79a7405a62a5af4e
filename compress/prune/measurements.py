"""Measurements that decide what is cut, kept with the state of an interrupted run.

Two runs never measure the same times, and other times choose other units. A run that resumes therefore repeats the choices that it
made before: it reads what it had measured until it was killed, and measures only what comes after.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.core import console, digests, files
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.prune.context import PruneContext
from compress.prune.cost_model import Clock, CostModel, CostUnit, SpeedupInterval
from compress.prune.costs import counted_costs
from compress.prune.latency_table import MeasuredT, latency_table, token_latency_table
from compress.prune.serving_clock import ServingClock

FILE = "measurements.json"


class Measurements:
    """What a run has measured, by name.

    Args:
        folder: for the state of an interrupted run, named after the cache key of the stage; None: nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder else None
        self._known = self._read()

    def once(self, name: str, measure: Callable[[], MeasuredT]) -> MeasuredT:
        """Return what was measured under a name before, or measure now and keep it; a JSON value."""
        if name not in self._known:
            self._known[name] = measure()
            self._write()
        return self._known[name]

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            document = files.read_json(self._path)
        except (OSError, ValueError, RecursionError):  # a damaged file: everything is measured again
            return {}
        return document if isinstance(document, dict) else {}

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(exist_ok=True)
            files.write_json(self._path, self._known)
        except OSError as error:
            console.warn(f"measurements could not be saved ({error.strerror}): if pruning is killed, it measures and chooses again")
            self._path = None


class RecordedClock:
    """A clock whose measurements are kept: the n-th measurement of a shape is the n-th again after a kill.

    Args:
        clock: measures.
        measurements: of the run.
    """

    def __init__(self, clock: Clock, measurements: Measurements) -> None:
        self.clock, self.measurements = clock, measurements
        self._timed: Counter[str] = Counter()

    @property
    def seconds(self) -> float:
        """The dense model's median seconds of a batch."""
        return self.measurements.once("dense seconds", lambda: self.clock.seconds)

    def speedup(self, model: TransformersModel) -> SpeedupInterval:
        """Return the measured speedup of a model over the dense one, with its 95 % interval."""
        shape = model_shape(model)
        name = digests.digest_json([shape.hidden, shape.as_json()])
        self._timed[name] += 1
        ratio, interval = self.measurements.once(f"speedup {name} {self._timed[name]}", lambda: self.clock.speedup(model))
        return ratio, interval


def measured_cost_model(context: PruneContext) -> CostModel:
    """Return the cost model of the settings' target; for a target of time the latency table is measured, or read from the cache.

    Measurements are kept in the run's resume folder.
    """
    settings, dense = context.settings, context.dense
    unit: CostUnit = "flops" if settings.target_flops else "params" if settings.target_params else "time"
    measurements = Measurements(context.inputs.resume)
    table = token_latency_table if context.drops_tokens else latency_table
    costs = table(dense.model, context.serving, measurements.once) if unit == "time" else counted_costs(dense.shape, unit, context.seq_len)
    clock = RecordedClock(ServingClock(dense.model, context.serving, dense.seed), measurements)
    return CostModel(dense.shape, unit, context.seq_len, costs, clock, context.serving.describe())
