"""The dense model that `prune`, `factorize` and `share` start from: loaded, checked, and matched with its task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from compress.data.input_spec import Target
from compress.data.task import Task
from compress.data.unlabeled import read_unlabeled
from compress.editing.calibration import Calibration
from compress.models.adapters import refuse_adapters
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.inputs import MAX_TOKENS, encode_calibration
from compress.models.int8_ranges import drop_ranges
from compress.models.label_mapping import map_labels, to_model_labels
from compress.models.layers import refuse_without_layers
from compress.models.low_rank import refuse_factorized
from compress.models.model_shape import model_shape
from compress.models.shape import Shape
from compress.models.types import TransformersModel


@dataclass(frozen=True)
class DenseModel:
    """A fine-tuned model with its task; stages work on copies of it.

    Attributes:
        model: the model, in evaluation mode.
        source: its folder.
        task: the task it was fine-tuned on.
        classes: the task's class of each logit, (logits,); those that the task lacks come after its own.
        seed: of every draw and order.
    """

    model: TransformersModel
    source: Path
    task: Task
    classes: np.ndarray
    seed: int

    @property
    def target(self) -> Target:
        """What the model predicts."""
        return self.task.spec.target

    @cached_property
    def shape(self) -> Shape:
        """Its shape."""
        return model_shape(self.model)

    def calibration(self, unlabeled: str | None, samples: int, max_tokens: int = MAX_TOKENS) -> Calibration:
        """Encode calibration texts: a random sample of a file of unlabeled texts, if given, or else of the training split.

        Args:
            unlabeled: the file.
            samples: number of texts.
            max_tokens: fewer texts if they exceed this together.

        Raises:
            DataError: the file or the split does not exist or is unusable.
        """
        spec = self.task.spec
        examples = read_unlabeled(unlabeled, spec) if unlabeled else self.task.split("train")
        data = encode_calibration(self.source, examples, spec.input_spec, samples, self.seed, max_tokens)
        labeled = not unlabeled and self.target != "vector"
        if labeled:
            data = replace(data, labels=to_model_labels(data.labels, self.target, self.classes))
        return Calibration(examples, data, labeled, self.target, self.seed)


def load_dense_model(source: Path, task: Task, seed: int, verb: str) -> DenseModel:
    """Load the model of a folder for a verb that edits whole encoders.

    Raises:
        UsageError: a BiLSTM, a static model, or a model with adapters or low-rank linears: `verb` does not take it.
        ModelError: the folder holds no usable checkpoint.
        DataError: the model does not fit the task.
    """
    model = load_model(source, target=task.spec.target, pooling=task.spec.pooling)
    for refuse in (refuse_without_layers, refuse_adapters, refuse_factorized):
        refuse(model, verb)
    drop_ranges(model.config, f"{verb} changes what they were trained for")
    classes = map_labels(read_config(source), task, str(source.name))
    return DenseModel(model, source, task, classes, seed)
