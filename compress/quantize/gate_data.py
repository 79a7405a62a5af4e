"""The texts of a quantization: those that ranges are calibrated on, and validation, which the form is judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.core import console
from compress.core.errors import GateMissed
from compress.data.encoded import Encoded
from compress.data.metrics import points_lost
from compress.data.spec import Kind, TaskSpec
from compress.data.unlabeled import read_unlabeled
from compress.export import recorded_input_spec
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.evaluator import Evaluator
from compress.models.inputs import calibration_examples, encode_for
from compress.models.label_mapping import map_labels
from compress.settings import QuantizeSettings
from compress.stage import Inputs

FEW = 32  # texts, below which a range is a guess
KINDS: dict[str, Kind] = {"value": "regression", "tags": "token-classification", "span": "question-answering"}
COLUMNS = {"token-classification": ["tokens"], "question-answering": ["question", "context"]}


def calibration_data(inputs: Inputs, settings: QuantizeSettings, source: Path) -> Encoded:
    """Encode `calib_samples` training examples, or texts without labels, drawn at random where there are more."""
    input_spec = recorded_input_spec(inputs)
    own = settings.unlabeled
    examples = read_unlabeled(own, _spec(inputs, own)) if own else inputs.task.split("train")
    if len(examples) < FEW:
        console.warn(f"ranges calibrated on {len(examples)} texts may cut off what others need: give a few hundred")
    return encode_for(source, calibration_examples(examples, settings.calib_samples, inputs.seed), input_spec)


def _spec(inputs: Inputs, name: str) -> TaskSpec:
    """Return the task's columns, or the usual ones of what the model answers with."""
    if inputs.task_or_none is not None:
        return inputs.task.spec
    input_spec = recorded_input_spec(inputs)
    kind = KINDS.get(input_spec.target, "text-classification")
    document = {"kind": kind, "multi_label": input_spec.target == "labels", "text": COLUMNS.get(kind, ["text"]), "train": name}
    return TaskSpec.model_validate(document)


class AccuracyGate:
    """Scores smaller forms on the task's validation split against the float graph, which is scored once."""

    def __init__(self, inputs: Inputs, source: Path, reference: OnnxModel) -> None:
        task = inputs.task
        self.evaluator = Evaluator(task, "validation", source, map_labels(reference.config, task, str(inputs.source.name)))
        self.main = task.spec.main_metric
        self.before = self._scores(reference.logits, "float")

    def _scores(self, forward: Forward, name: str) -> dict[str, float]:
        return self.evaluator.score(forward, label=f"validating {name}")

    def drop(self, forward: Forward, name: str) -> float:
        """Return the points of the main metric that a form loses."""
        return points_lost(self.before[self.main], self._scores(forward, name)[self.main])

    def check(self, forward: Forward, max_drop: float | None, precision: str) -> dict[str, Any]:
        """Return the metrics of the form that was made, which is in `precision`.

        Raises:
            GateMissed: it loses more than `max_drop` points.
        """
        after = self._scores(forward, precision)
        drop, n = points_lost(self.before[self.main], after[self.main]), len(self.evaluator)
        console.info(f"  validation {self.main} {100 * after[self.main]:.2f}, float {100 * self.before[self.main]:.2f} (n = {n})")
        if max_drop is not None and drop > max_drop:
            raise GateMissed(
                f"{precision} loses {drop:.2f} points of {self.main} on validation (n = {n}), more than --max-drop {max_drop:g}",
                "allow more, try --method auto, which is int8 with what is sensitive in float, or serve the float artifact",
            )
        return {"n": n, **after, "float": self.before[self.main], "drop_points": drop}
