"""The texts that activation ranges are calibrated on."""

from __future__ import annotations

from pathlib import Path

from compress.core import console
from compress.data.encoded import Encoded
from compress.data.spec import Kind, TaskSpec
from compress.data.unlabeled import read_unlabeled
from compress.export.artifact import recorded_input_spec
from compress.models.inputs import calibration_examples, encode_for
from compress.settings import QuantizeSettings
from compress.stage import Inputs

MIN_TEXTS = 32  # fewer texts give unreliable ranges
KINDS: dict[str, Kind] = {
    "value": "regression",
    "tags": "token-classification",
    "span": "question-answering",
    "vector": "sentence-embedding",
    "mentions": "coreference",
}
COLUMNS = {"token-classification": ["tokens"], "question-answering": ["question", "context"]}


def encode_calibration_texts(inputs: Inputs, settings: QuantizeSettings, source: Path) -> Encoded:
    """Encode `calib_samples` training examples, or texts of `unlabeled`, drawn at random if there are more.

    Raises:
        DataError: the file of texts is missing, empty or lacks a column.
    """
    if settings.unlabeled:
        examples = read_unlabeled(settings.unlabeled, _text_columns(inputs, settings.unlabeled))
    else:
        examples = inputs.task.split("train")
    if len(examples) < MIN_TEXTS:
        console.warn(f"calibrated on {len(examples)} texts only: the ranges may clip other texts; give a few hundred")
    return encode_for(source, calibration_examples(examples, settings.calib_samples, inputs.seed), recorded_input_spec(inputs))


def _text_columns(inputs: Inputs, name: str) -> TaskSpec:
    """Return the spec of the task, or without one a spec with the usual columns for the model's kind of predictions."""
    if inputs.task_or_none is not None:
        return inputs.task.spec
    input_spec = recorded_input_spec(inputs)
    kind = KINDS.get(input_spec.target, "text-classification")
    document = {"kind": kind, "multi_label": input_spec.target == "labels", "text": COLUMNS.get(kind, ["text"]), "train": name}
    return TaskSpec.model_validate(document)
