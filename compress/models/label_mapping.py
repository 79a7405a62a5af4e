"""Map a model's logits to a task's labels, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.core import console
from compress.core.errors import DataError
from compress.data.input_spec import Target
from compress.data.task import Task
from compress.models.config import agreed_target, class_names, only_numbered
from compress.models.types import Config

NO_CLASS = -1
PREDICTIONS: dict[Target, str] = {
    "class": "one class per text",
    "labels": "any number of labels per text",
    "value": "a value per text",
    "tags": "a tag per token",
    "span": "a span of the context",
}


def map_labels(config: Config, task: Task, model_name: str) -> np.ndarray:
    """Return the task's class of each logit of a model, (logits,) int64; -1 for logits of classes that the task lacks.

    Args:
        config: of the model, as in its `config.json`.
        task: to evaluate or train on.
        model_name: for messages.

    Raises:
        DataError: the model predicts something else than the task needs, or lacks one of its labels.
    """
    expected, predicted = task.spec.target, agreed_target(config, task.spec.target)
    if predicted is not None and predicted != expected:
        raise DataError(
            f"{model_name} predicts {PREDICTIONS[predicted]}, and the task {task.spec.name} ({task.spec.described_kind}) needs "
            f"{PREDICTIONS[expected]}",
            "use a model that was fine-tuned on this kind of task, or name the right --kind",
        )
    names = class_names(config)
    if expected in ("value", "span"):
        return np.arange(len(names))
    return map_label_names(names, task.label_names, model_name)


def map_label_names(model_labels: Sequence[str], task_labels: Sequence[str], model_name: str) -> np.ndarray:
    """Return the task's class of each class of a model by name, (model classes,) int64; -1 if the task lacks the name.

    A model whose classes are only numbered (LABEL_0, …) is assumed to use the task's order, with a warning.

    Raises:
        DataError: the model lacks a class of the task.
    """
    if only_numbered(list(model_labels), list(task_labels)):
        console.warn(f"{model_name} does not name its classes: they are assumed in the task's order ({', '.join(task_labels[:6])})")
        return np.arange(len(task_labels))
    unknown = [label for label in task_labels if label not in model_labels]
    if unknown:
        raise DataError(
            f"{model_name} does not know the label '{unknown[0]}' ({len(unknown)} of the task's {len(task_labels)} labels; "
            f"it knows: {', '.join(model_labels[:8])})",
            "use a model that was fine-tuned on this task, or give the task's 'labels' in the names that the model knows",
        )
    numbers = {label: number for number, label in enumerate(task_labels)}
    return np.array([numbers.get(label, NO_CLASS) for label in model_labels], dtype=np.int64)


def logit_positions(classes: np.ndarray) -> np.ndarray:
    """Return the logit of each class of the task, (task classes,) int64: the inverse of `map_labels`."""
    positions = np.full(int(classes.max()) + 1, NO_CLASS, dtype=np.int64)
    for position, number in enumerate(classes.tolist()):
        if number != NO_CLASS:
            positions[number] = position
    return positions


def to_model_labels(labels: Any, target: Target, classes: np.ndarray) -> Any:
    """Renumber a task's encoded labels as the model numbers its classes, for a loss on the model's logits.

    Args:
        labels: as `Encoded.labels`.
        target: of the task.
        classes: the task's class of each logit, as `map_labels` returns it.
    """
    positions = logit_positions(classes)
    if target == "class":
        return positions[labels]
    if target == "labels":
        matrix = np.zeros((len(labels), len(classes)), dtype=np.float32)
        matrix[:, positions] = labels
        return matrix
    if target == "tags":
        return [np.where(tags >= 0, positions[np.maximum(tags, 0)], tags) for tags in labels]
    return labels


def predicted_classes(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the task's class with the largest logit: (n, model classes) -> (n,)."""
    return classes[logits.argmax(axis=1)]
