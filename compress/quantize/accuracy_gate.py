"""The accuracy gate: score quantized graphs on validation against the float graph."""

from __future__ import annotations

from pathlib import Path

from compress.core import console
from compress.core.errors import GateMissed
from compress.data.metrics import points_lost
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.evaluator import Evaluator
from compress.models.label_mapping import map_labels
from compress.results.values import Metrics
from compress.stage import Inputs


class AccuracyGate:
    """Scores quantized graphs on the task's validation split; the float graph is scored once.

    Args:
        inputs: with a task.
        source: folder of the float artifact, whose tokenizer encodes the split.
        reference: the float artifact.
    """

    def __init__(self, inputs: Inputs, source: Path, reference: OnnxModel) -> None:
        task = inputs.task
        classes = map_labels(reference.config, task, str(inputs.source.name))
        self.evaluator = Evaluator(task, "validation", source, classes, reference=(reference.logits, source))
        self.metric = task.spec.main_metric
        self.baseline = self._score(reference.logits, "float")[self.metric]

    def _score(self, forward: Forward, name: str) -> Metrics:
        return self.evaluator.score(forward, label=f"validating {name}")

    def points_lost(self, forward: Forward, name: str) -> float:
        """Return how many points of the main metric a graph loses."""
        return points_lost(self.baseline, self._score(forward, name)[self.metric])

    def check(self, forward: Forward, max_drop: float | None, precision: str) -> Metrics:
        """Return the metrics of the chosen graph, whose number format is `precision`.

        Raises:
            GateMissed: it loses more than `max_drop` points.
        """
        metrics, n = self._score(forward, precision), len(self.evaluator)
        drop = points_lost(self.baseline, metrics[self.metric])
        console.info(f"  validation {self.metric} {100 * metrics[self.metric]:.2f}, float {100 * self.baseline:.2f} (n = {n})")
        if max_drop is not None and drop > max_drop:
            raise GateMissed(
                f"{precision} loses {drop:.2f} points of {self.metric} on validation (n = {n}), more than --max-drop {max_drop:g}",
                "allow more, try --method auto, which keeps sensitive layers in float, or serve the float artifact",
            )
        return {"n": n, **metrics, "float": self.baseline, "drop_points": drop}
