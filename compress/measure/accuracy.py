"""The stage `eval`: metrics with intervals, every model paired with the first on the very same examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress import console
from compress.measure import statistics
from compress.model.scorer import open_classifier, score
from compress.settings import EvalSettings
from compress.stage import Inputs
from compress.task.encode import encode_for
from compress.task.labels import classes_of, predicted_classes
from compress.task.metrics import METRICS, compute


def run(inputs: Inputs, settings: EvalSettings, output: Path) -> dict[str, Any]:
    """Evaluate every source on one split of the task; returns the document that `eval --json` prints."""
    task = inputs.task
    split = task.evaluation_split(settings.split)
    examples = task.split(split)
    results: list[dict[str, Any]] = []
    first: np.ndarray | None = None
    for name, folder in inputs.sources.items():
        forward, labels = open_classifier(folder, settings.device)
        data = encode_for(folder, examples, task.spec.max_length)
        classes = classes_of(labels, task.label_names, name)
        predictions = predicted_classes(score(forward, data, settings.batch_size, f"{name} on {split}"), classes)
        results.append({"model": name, **describe(task.spec.metrics, examples.labels, predictions, first)})
        first = predictions if first is None else first
        main = results[-1]["metrics"][task.spec.main_metric]
        console.info(f"  {name}: {task.spec.main_metric} {100 * main:.2f}")
    return {
        "task": task.spec.name,
        "split": split,
        "n": len(examples),
        "main_metric": task.spec.main_metric,
        "results": results,
        "metrics": {entry["model"]: entry["metrics"] for entry in results},
    }


def describe(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray, first: np.ndarray | None) -> dict[str, Any]:
    """Return metrics, 95 % intervals and (given the first model's predictions) the paired comparison.

    Args:
        names: of the metrics; the first one is compared.
        labels: true classes, (n,).
        predictions: predicted classes, (n,).
        first: the first model's predicted classes, (n,), or None for the first model itself.
    """
    document: dict[str, Any] = {
        "metrics": compute(names, labels, predictions),
        "ci95": {name: interval(name, labels, predictions) for name in names},
    }
    if first is not None:
        document["vs_first"] = compare(names[0], labels, first, predictions)
    return document


def interval(name: str, labels: np.ndarray, predictions: np.ndarray) -> list[float]:
    """Return the 95 % interval of a metric: Wilson's for accuracy, the bootstrap's otherwise."""
    if name == "accuracy":
        return list(statistics.wilson_interval(int(np.sum(labels == predictions)), len(labels)))
    metric = METRICS[name]
    return list(statistics.bootstrap_interval(lambda picked: metric(labels[picked], predictions[picked]), len(labels)))


def compare(name: str, labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Return the second model's metric minus the first's, with a paired bootstrap interval and a p value.

    The p value is McNemar's for accuracy and the paired bootstrap's otherwise.
    """
    metric = METRICS[name]
    if name == "accuracy":
        right = (second == labels).astype(int) - (first == labels).astype(int)
        differences = np.array([right[picked].mean() for picked in statistics.resampled_positions(len(labels))])
        p_value = statistics.mcnemar_p(first == labels, second == labels)
    else:
        resampled = statistics.resampled_positions(len(labels))
        differences = np.array([metric(labels[p], second[p]) - metric(labels[p], first[p]) for p in resampled])
        p_value = statistics.bootstrap_p(differences)
    return {
        "metric": name,
        "delta": metric(labels, second) - metric(labels, first),
        "ci95": list(statistics.percentile_interval(differences)),
        "p_value": p_value,
    }
