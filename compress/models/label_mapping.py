"""Bring a model's outputs and a task's labels together: by kind, and label by label by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from compress.core import console
from compress.core.errors import DataError
from compress.data.input_spec import Target
from compress.data.task import Task
from compress.models.config import agreed_target, class_names, only_numbered

NO_CLASS = -1
IN_WORDS: dict[Target, str] = {
    "class": "one class of a text",
    "labels": "any labels of a text",
    "value": "a value of a text",
    "tags": "a tag per token",
    "span": "a span of the context",
}


def map_labels(config: dict[str, Any], task: Task, model_name: str) -> np.ndarray:
    """Return the task's label of each logit of a model: (logits,) int64, -1 where the task has none of that name.

    Args:
        config: of the model, as in its `config.json`.
        task: what is asked.
        model_name: for messages.

    Raises:
        DataError: the model answers another kind of question, or does not know a label of the task.
    """
    wanted, found = task.spec.target, agreed_target(config, task.spec.target)
    if found is not None and found != wanted:
        raise DataError(
            f"{model_name} answers with {IN_WORDS[found]}, and the task {task.spec.name} ({task.spec.described_kind}) asks for "
            f"{IN_WORDS[wanted]}",
            "use a model that was fine-tuned on this kind of task, or name the right --kind",
        )
    names = class_names(config)
    if wanted in ("value", "span"):
        return np.arange(len(names))
    return map_label_names(names, task.label_names, model_name)


def map_label_names(model_labels: list[str], task_labels: list[str], model_name: str) -> np.ndarray:
    """Map each logit of a model to the task's class of that name: (model classes,) int64, -1 where there is none.

    A model whose classes are only numbered (LABEL_0, …) is taken to use the task's order, with a warning.

    Raises:
        DataError: the task has a class that the model does not know.
    """
    if only_numbered(model_labels, task_labels):
        console.warn(f"{model_name} does not name its classes: the order of the task is taken ({', '.join(task_labels[:6])})")
        return np.arange(len(task_labels))
    unknown = [label for label in task_labels if label not in model_labels]
    if unknown:
        raise DataError(
            f"{model_name} does not know the label '{unknown[0]}' ({len(unknown)} of the task's {len(task_labels)} labels; "
            f"it knows: {', '.join(model_labels[:8])})",
            "use a model that was fine-tuned on this task, or give the task's 'labels' in words that the model knows",
        )
    numbers = {label: number for number, label in enumerate(task_labels)}
    return np.array([numbers.get(label, NO_CLASS) for label in model_labels], dtype=np.int64)


def logit_positions(classes: np.ndarray) -> np.ndarray:
    """Return the logit of each class of the task, (task classes,): the inverse of `connect`'s map."""
    order = np.full(int(classes.max()) + 1, NO_CLASS, dtype=np.int64)
    for position, number in enumerate(classes.tolist()):
        if number != NO_CLASS:
            order[number] = position
    return order


def to_model_labels(labels: Any, target: Target, classes: np.ndarray) -> Any:
    """Write a task's encoded labels in a model's numbering: what `task_loss` compares its logits with.

    Raises:
        IndexError: never for labels of the task that `classes` was made for.
    """
    order = logit_positions(classes)
    if target == "class":
        return order[labels]
    if target == "labels":
        matrix = np.zeros((len(labels), len(classes)), dtype=np.float32)
        matrix[:, order] = labels
        return matrix
    if target == "tags":
        return [np.where(tags >= 0, order[np.maximum(tags, 0)], tags) for tags in labels]
    return labels


def predicted_classes(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the task's class with the largest logit: (n, model classes) -> (n,)."""
    return classes[logits.argmax(axis=1)]
