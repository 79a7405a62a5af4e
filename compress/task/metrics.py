"""Metrics as the benchmarks define them, from predicted and true classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of the (n,) predictions that equal the labels."""
    return float(np.mean(labels == predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of class 1, as GLUE reports it for MRPC and QQP; 0 where nothing is predicted or true."""
    true = int(np.sum((labels == 1) & (predictions == 1)))
    wrong = int(np.sum((labels == 1) != (predictions == 1)))
    return 2 * true / (2 * true + wrong) if true else 0.0


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean of the classes' F1, over the classes that occur."""
    from sklearn.metrics import f1_score

    classes = np.unique(np.concatenate([labels, predictions[predictions >= 0]]))
    return float(f1_score(labels, predictions, labels=classes, average="macro", zero_division=0))  # pyright: ignore[reportArgumentType]


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews' correlation coefficient, as GLUE reports it for CoLA."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


METRICS: dict[str, Metric] = {"accuracy": accuracy, "f1": f1, "macro_f1": macro_f1, "matthews": matthews}


def compute(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Compute the named metrics."""
    return {name: METRICS[name](labels, predictions) for name in names}
