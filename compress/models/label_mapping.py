"""Map a model's logits to a task's labels, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.core import console
from compress.core.errors import DataError
from compress.data.input_spec import TOKEN_LABELS, Target
from compress.data.task import Task
from compress.models.config_heads import agreed_target, class_names, only_numbered, target_of
from compress.models.types import Config

NO_CLASS = -1
PREDICTIONS: dict[Target, str] = {
    "class": "one class per text",
    "labels": "any number of labels per text",
    "value": "a value per text",
    "tags": "a tag per token",
    "span": "a span of the context",
    "vector": "a vector per text",
    "mentions": "which of two names a pronoun means",
}


def map_labels(config: Config, task: Task, model_name: str) -> np.ndarray:
    """Return the task's class of each logit of a model, (logits,) int64.

    A class that the task lacks gets a number after the task's own, and its name stands in `task.class_names`: predictions of it
    are wrong ones, and metrics must count them. Where the task only numbers its classes, `task.class_names` gets the names of the
    first model that has names, and later models are matched with these names.

    Args:
        config: of the model, as in its `config.json`.
        task: to evaluate or train on.
        model_name: for messages.

    Raises:
        DataError: the model predicts something else than the task needs, lacks one of its labels, or has other names for them than
            an earlier model.
    """
    expected, predicted = task.spec.target, agreed_target(config, task.spec.target)
    if predicted is not None and predicted != expected:
        raise DataError(
            f"{model_name} predicts {PREDICTIONS[predicted]}, and the task {task.spec.name} ({task.spec.described_kind}) needs "
            f"{PREDICTIONS[expected]}",
            "use a model that was fine-tuned on this kind of task, or name the right --kind",
        )
    names = class_names(config)
    if expected == "vector":
        return np.arange(0)  # dimensions have no names
    if expected in ("value", "span", "mentions"):
        return np.arange(len(names))
    classes = _map_to_adopted(names, task, model_name)
    if classes is None:
        classes = map_label_names(names, task.label_names, model_name)
    return np.array([task.class_number(name, number) for name, number in zip(names, classes.tolist(), strict=True)], dtype=np.int64)


def _map_to_adopted(names: list[str], task: Task, model_name: str) -> np.ndarray | None:
    """Return the task's class of each class of a model, by the names that an earlier model has given to the task's numbers.

    None if no model has named them, or if this one has numbers for its classes, too.
    """
    adopted = task.class_names[: len(task.label_names)]
    if adopted == task.label_names or label_numbers(names) is not None:
        return None
    positions = match_labels(names, adopted)
    if positions is None:
        raise DataError(
            f"the data numbers its classes, and {model_name} has other names for them than an earlier model: "
            f"{', '.join(names[:8])} instead of {', '.join(adopted[:8])}",
            "use models with the same class names, or give the labels of the data by name ('labels' in the task file)",
        )
    return _numbers_of(positions, names)


def head_for_task(config: Config, task: Task, model_name: str) -> tuple[list[str], np.ndarray]:
    """Return the names of a head's logits for training on a task, and the task's class of each logit.

    A head that is trained for the task's classes is kept: in the task's order, with the model's names. One for more classes is
    kept whole if the task only numbers its classes. For another head the names are the task's.

    Args:
        config: of the model to train.
        task: to train on.
        model_name: for messages.
    """
    target, names = task.spec.target, task.label_names
    new = names, np.arange(len(names))
    if target in ("value", "span", "vector", "mentions") or target_of(config) is None or agreed_target(config, target) != target:
        return new
    model_names = class_names(config)
    positions = None if only_numbered(model_names, names) else match_labels(model_names, names)
    if positions is None:
        return new
    if len(model_names) == len(names):
        map_labels(config, task, model_name)
        return [model_names[position] for position in positions], new[1]
    return (model_names, map_labels(config, task, model_name)) if label_numbers(names) is not None else new


def label_numbers(labels: Sequence[str]) -> list[int] | None:
    """Return the class numbers that all labels are (`3` or `LABEL_3`), or None."""
    matches = [re.fullmatch(r"(?:LABEL_)?(0|[1-9]\d*)", label, re.ASCII) for label in labels]
    return [int(match[1]) for match in matches if match] if all(matches) else None


def match_labels(model_labels: Sequence[str], task_labels: Sequence[str]) -> list[int] | None:
    """Return the position of each of the task's labels in the model's, or None if they do not fit.

    Labels are matched by name, else without regard to case if that is unambiguous. Numbers and LABEL_n are positions, if neither
    the model nor the task has both words and numbers.
    """
    model = list(model_labels)
    if set(task_labels) <= set(model):
        return [model.index(label) for label in task_labels]
    numbers = label_numbers(task_labels)
    if numbers is not None and len(set(numbers)) == len(numbers) and max(numbers) < len(model):
        words = not any(label.isdecimal() for label in model)
        return numbers if words and label_numbers(model) in (None, list(range(len(model)))) else None
    folded = [label.strip().casefold() for label in model]
    positions = [folded.index(name) if folded.count(name) == 1 else -1 for name in (label.strip().casefold() for label in task_labels)]
    return positions if min(positions) >= 0 and len(set(positions)) == len(positions) else None


def map_label_names(model_labels: Sequence[str], task_labels: Sequence[str], model_name: str) -> np.ndarray:
    """Return the task's class of each class of a model, (model classes,) int64; -1 if the task lacks the class.

    See `match_labels`. A model whose classes are only numbered (LABEL_0, …) is assumed to use the task's order, with a warning.

    Raises:
        DataError: the model lacks a class of the task.
    """
    positions = match_labels(model_labels, task_labels)
    if positions is None and only_numbered(list(model_labels), list(task_labels)):
        console.warn(f"{model_name} does not name its classes: they are assumed in the task's order ({', '.join(task_labels[:6])})")
        return np.arange(len(task_labels))
    if positions is None:
        unknown = [label for label in task_labels if label not in model_labels]
        raise DataError(
            f"{model_name} does not know the label '{unknown[0]}' ({len(unknown)} of the task's {len(task_labels)} labels; "
            f"it knows: {', '.join(model_labels[:8])})",
            "use a model that was fine-tuned on this task, or give the task's 'labels' in the names that the model knows",
        )
    _say_match(model_labels, task_labels, positions, model_name)
    return _numbers_of(positions, model_labels)


def _numbers_of(positions: Sequence[int], model_labels: Sequence[str]) -> np.ndarray:
    """Return the task's class of each class of a model, from the position of each of the task's classes in the model's."""
    numbers = {position: number for number, position in enumerate(positions)}
    return np.array([numbers.get(position, NO_CLASS) for position in range(len(model_labels))], dtype=np.int64)


def _say_match(model_labels: Sequence[str], task_labels: Sequence[str], positions: Sequence[int], model_name: str) -> None:
    """Say once which labels with other names are taken to be the same."""
    pairs = [(label, model_labels[position]) for label, position in zip(task_labels, positions, strict=True)]
    differing = [f"{label} is {name}" for label, name in pairs if label != name]
    if differing and label_numbers(model_labels) is None:
        by = "position" if label_numbers(task_labels) is not None else "name without regard to case"
        shown = ", ".join(differing[:6]) + (", …" if len(differing) > 6 else "")
        console.warn_once(f"labels are matched with the classes of {model_name} by {by}: {shown}")


def logit_positions(classes: np.ndarray) -> np.ndarray:
    """Return the logit of each class of the task, (task classes and more,) int64, -1 for none: the inverse of `map_labels`."""
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
        matrix[:, positions[: labels.shape[1]]] = labels
        return matrix
    if target in TOKEN_LABELS:
        return [np.where(tags >= 0, positions[np.maximum(tags, 0)], tags) for tags in labels]
    return labels


def predicted_classes(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the task's class with the largest logit: (n, model classes) -> (n,)."""
    return classes[logits.argmax(axis=1)]
