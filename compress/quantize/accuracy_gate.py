"""The accuracy gate: score quantized graphs on validation against the float graph.

Without `max_drop`, embedders are judged by their vectors: nDCG of a few hundred queries moves by more than int8 changes it, the mean
cosine with the float vectors does not.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from compress.core import console
from compress.core.errors import GateMissed
from compress.data.encoded import Encoded
from compress.data.metric_rows import cosine
from compress.data.metrics import points_lost
from compress.export.verify import subsample
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward, run_batches
from compress.inference.evaluator import Evaluator
from compress.models.label_mapping import map_labels
from compress.results.values import Metrics
from compress.stage import Inputs

DEFAULT_MAX_DROP = 0.5  # points, without `max_drop`
VECTOR_MAX_DROP = 0.2  # hundredths of the mean cosine with the float vectors, without `max_drop`
COMPARED_TEXTS = 512  # whose vectors are compared


class AccuracyGate:
    """Scores quantized graphs on the task's validation split; the float graph is scored once.

    Args:
        inputs: with a task.
        source: folder of the float artifact, whose tokenizer encodes the split.
        reference: the float artifact.
        max_drop: points that may be lost; None: `DEFAULT_MAX_DROP`, of an embedder `VECTOR_MAX_DROP`.
    """

    def __init__(self, inputs: Inputs, source: Path, reference: OnnxModel, max_drop: float | None = None) -> None:
        task = inputs.task
        self._reference = reference.logits
        self.max_drop, self.compares_vectors = max_drop, max_drop is None and task.spec.target == "vector"
        classes = map_labels(reference.config, task, str(inputs.source.name))
        self.evaluator = Evaluator(task, "validation", source, classes, reference=(reference.logits, source))
        self.metric = task.spec.main_metric
        self.baseline = self._score(reference.logits, "float")[self.metric]

    def _score(self, forward: Forward, name: str) -> Metrics:
        return self.evaluator.score(forward, label=f"validating {name}")

    @property
    def limit(self) -> float:
        """The points that `points_lost` may return."""
        return self.max_drop if self.max_drop is not None else VECTOR_MAX_DROP if self.compares_vectors else DEFAULT_MAX_DROP

    @cached_property
    def _expected(self) -> tuple[Encoded, np.ndarray]:
        """Texts of the split, and their float vectors, (texts, size)."""
        texts = subsample(self.evaluator.data, COMPARED_TEXTS)
        return texts, run_batches(self._reference, texts, label="reference vectors")

    def points_lost(self, forward: Forward, name: str) -> float:
        """Return how many points of the main metric a graph loses; of an embedder without `max_drop` of the mean cosine."""
        if self.compares_vectors:
            texts, expected = self._expected
            vectors = run_batches(forward, texts, label=f"comparing the vectors of {name}")
            return points_lost(1.0, float(cosine(expected, vectors, ()).mean()))
        return points_lost(self.baseline, self._score(forward, name)[self.metric])

    def check(self, forward: Forward, precision: str) -> Metrics:
        """Return the metrics of the chosen graph, whose number format is `precision`.

        Raises:
            GateMissed: it loses more than `max_drop` points.
        """
        metrics, n = self._score(forward, precision), len(self.evaluator)
        drop = points_lost(self.baseline, metrics[self.metric])
        console.info(f"  validation {self.metric} {100 * metrics[self.metric]:.2f}, float {100 * self.baseline:.2f} (n = {n})")
        if self.max_drop is not None and drop > self.max_drop:
            raise GateMissed(
                f"{precision} loses {drop:.2f} points of {self.metric} on validation (n = {n}), more than --max-drop {self.max_drop:g}",
                "allow more, try --method auto, which keeps sensitive layers in float, or serve the float artifact",
            )
        return {"n": n, **metrics, "float": self.baseline, "drop_points": drop}
