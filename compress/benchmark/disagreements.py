"""The examples that some model gets wrong, or on which two models disagree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from compress.data.examples import Examples, Predictions
from compress.data.judgements import Judgements
from compress.data.mentions import CHOICE, CHOICES
from compress.data.squad import normalize_answer
from compress.data.task import Task
from compress.models.label_mapping import NO_CLASS

Readable = str | float | list[str] | list[str | None] | None
"""A label or prediction as JSON: a class name, a value, label names, tags, answer texts, or A, B or neither."""


class ErrorEntry(TypedDict):
    """One example; `expected` is its label, `predictions` are by model, `wrong` names the models that are wrong."""

    row: int
    text: str | list[str]
    expected: Readable
    predictions: dict[str, Readable]
    wrong: list[str]
    disagree: bool


def list_errors(examples: Examples, predictions: Mapping[str, Predictions], task: Task) -> list[ErrorEntry]:
    """Return every example that some model gets wrong or on which two models disagree, disagreements first.

    A value is wrong, or disagrees, if it is off by more than half the standard deviation of the labels. Vectors and rankings are
    neither right nor wrong: for them there are no errors to list.

    Args:
        examples: with their labels.
        predictions: by model, in the form of `Examples.labels`.
        task: of the examples.
    """
    if task.spec.target == "vector" or isinstance(examples.labels, Judgements):
        return []
    margin = float(np.std(examples.labels)) / 2 if task.spec.target == "value" else 0.0
    entries: list[ErrorEntry] = []
    for position, texts in enumerate(examples.texts):
        label = _readable(examples.labels[position], task, is_label=True)
        readable = {name: _readable(of_model[position], task) for name, of_model in predictions.items()}
        wrong = [name for name, prediction in readable.items() if not _agree(prediction, label, margin, task)]
        first = next(iter(readable.values()))
        disagree = any(not _agree(prediction, first, margin, task) for prediction in readable.values())
        if wrong or disagree:
            text = " ".join(texts) if task.spec.target == "tags" else list(texts) if len(texts) > 1 else "".join(texts)
            entries.append(
                {"row": position, "text": text, "expected": label, "predictions": readable, "wrong": wrong, "disagree": disagree}
            )
    return sorted(entries, key=lambda entry: (not entry["disagree"], entry["row"]))


def _readable(value: Any, task: Task, is_label: bool = False) -> Readable:
    """Return a label or a prediction with the task's label names."""
    names, target = task.class_names, task.spec.target
    if target == "class":
        return names[int(value)] if int(value) != NO_CLASS else None
    if target == "labels":
        return [name for name, present in zip(names, value, strict=False) if present]  # labels lack the classes of models alone
    if target == "value":
        return float(value)
    if target == "mentions":
        return CHOICES[int(value[CHOICE] if is_label else value)]
    if target == "tags":
        return [names[int(tag)] if tag >= 0 else None for tag in value]
    return [text for _, text in value] if is_label else value


def _agree(prediction: Any, other: Any, margin: float, task: Task) -> bool:
    if task.spec.target == "value":
        return abs(prediction - other) <= margin
    if task.spec.target == "span":
        texts = other if isinstance(other, list) else [other]
        return normalize_answer(prediction) in {normalize_answer(text) for text in texts or [""]}
    return prediction == other
