"""Bring a model's classes and a task's classes together, by name."""

from __future__ import annotations

import re

import numpy as np

from compress import console
from compress.errors import DataError

NO_CLASS = -1


def classes_of(model_labels: list[str], task_labels: list[str], model_name: str) -> np.ndarray:
    """Map each logit of a model to the task's class of that name: (model classes,) int64, -1 where there is none.

    A model whose classes are only numbered (LABEL_0, …) is taken to use the task's order, with a warning.

    Raises:
        DataError: the task has a class that the model does not know.
    """
    if all(re.fullmatch(r"LABEL_\d+", label) for label in model_labels) and len(model_labels) == len(task_labels):
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


def predicted_classes(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the task's class with the largest logit: (n, model classes) -> (n,)."""
    return classes[logits.argmax(axis=1)]
