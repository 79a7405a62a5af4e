"""The teachers of a distillation: one, or several whose logits are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.core.errors import DataError, UsageError
from compress.data.task import Task
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.head import model_labels
from compress.models.int8_ranges import drop_ranges
from compress.models.label_mapping import NO_CLASS, logit_positions, map_labels
from compress.models.types import TransformersModel


@dataclass(frozen=True)
class AdditionalTeacher:
    """A further teacher: `order` is the position of its logit for each logit of the first teacher, (logits,) int64."""

    model: TransformersModel
    folder: Path
    order: np.ndarray


@dataclass(frozen=True)
class Teachers:
    """The teachers of a student.

    Attributes:
        model: the first teacher, with a head for the task; losses of layers compare the student with it.
        folder: of its tokenizer and weights, whose digest names its cached outputs.
        classes: the task's class of each of its logits.
        additional: further teachers, whose logits are averaged with the first one's.
    """

    model: TransformersModel
    folder: Path
    classes: np.ndarray
    additional: Sequence[AdditionalTeacher] = ()

    @property
    def folders(self) -> list[Path]:
        """The folders of all teachers."""
        return [self.folder, *(teacher.folder for teacher in self.additional)]


def load_teachers(folder: Path, additional: Sequence[Path], task: Task) -> Teachers:
    """Load the teachers of a task, each with a head for it.

    Raises:
        UsageError: several embedders.
        ModelError: a folder is no model for the task.
        DataError: labels that the task, or the first teacher, does not know.
    """
    if additional and task.spec.target == "vector":
        raise UsageError("the vectors of several teachers cannot be averaged: their dimensions mean different things", "give one --teacher")
    model = load_model(folder, target=task.spec.target, pooling=task.spec.pooling)
    drop_ranges(model.config)  # a student may be created from it
    classes = map_labels(read_config(folder), task, folder.name)
    return Teachers(model, folder, classes, [load_additional_teacher(other, task, model, classes) for other in additional])


def load_additional_teacher(folder: Path, task: Task, first: TransformersModel, classes: np.ndarray) -> AdditionalTeacher:
    """Load a further teacher, whose labels may be in another order than the first one's.

    Args:
        folder: of the teacher.
        task: of both teachers.
        first: the first teacher.
        classes: the task's class of each of the first one's logits.

    Raises:
        ModelError: the folder is no model for the task.
        DataError: a label of the first teacher is missing.
    """
    positions = logit_positions(map_labels(read_config(folder), task, folder.name))
    model = load_model(folder, target=task.spec.target)
    order = []
    for label, number in zip(model_labels(first), classes.tolist(), strict=True):
        position = int(positions[number]) if number < len(positions) else NO_CLASS
        if position == NO_CLASS:
            raise DataError(
                f"{folder.name} does not know the label '{label}' of the first teacher",
                "use teachers that were fine-tuned on the same labels",
            )
        order.append(position)
    return AdditionalTeacher(model, folder, np.array(order, dtype=np.int64))


def mean_logits(logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of several teachers' logits of the same classes in the same order.

    For classes this is the normalised geometric mean of their distributions (Hinton et al. 2015, section 1), at any temperature.
    """
    return np.stack(logits).mean(axis=0).astype(np.float32)
