"""Precision, recall and F1 of every label, and the confusion matrix."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from compress.data.examples import Examples, Labels
from compress.data.metric_rows import widened
from compress.data.task import Task
from compress.results.measurements import ClassMetrics

MAX_CONFUSION_CLASSES = 20  # a larger confusion matrix is unreadable


class ClassTables(TypedDict, total=False):
    """The table of labels, and for few classes the confusion matrix."""

    per_class: list[ClassMetrics]
    confusion: list[list[int]]


def class_metrics(examples: Examples, predictions: Labels, task: Task) -> ClassTables:
    """Return precision, recall, F1 and support of every label, and for few classes the confusion matrix (rows: true labels).

    Args:
        examples: with their labels.
        predictions: in the form of `Examples.labels`.
        task: of the examples; the result is empty for values, spans, vectors and mention pairs.
    """
    if task.spec.target not in ("class", "labels", "tags"):
        return {}
    names = task.class_names
    true, predicted = (_indicators(side, len(names)) for side in (examples.labels, predictions))
    tables: ClassTables = {"per_class": _table(names, true, predicted)}
    if task.spec.target != "labels" and len(names) <= MAX_CONFUSION_CLASSES:
        tables["confusion"] = (true.T.astype(np.int64) @ predicted.astype(np.int64)).tolist()
    return tables


def _table(names: list[str], true: np.ndarray, predicted: np.ndarray) -> list[ClassMetrics]:
    hits, positives, support = (true & predicted).sum(0), predicted.sum(0), true.sum(0)
    return [
        {
            "label": name,
            "precision": float(hits[i] / positives[i]) if positives[i] else None,
            "recall": float(hits[i] / support[i]) if support[i] else None,
            "f1": float(2 * hits[i] / (positives[i] + support[i])) if positives[i] + support[i] else None,
            "n": int(support[i]),
        }
        for i, name in enumerate(names)
    ]


def _indicators(side: Labels, count: int) -> np.ndarray:
    """Return which label each example (for tags: each word) has, (n, labels) booleans."""
    if isinstance(side, list):
        side = np.concatenate(side)
    return widened(side, count).astype(bool) if side.ndim == 2 else side[:, None] == np.arange(count)
