"""The stage `eval`: metrics with intervals, every model paired with the first on the very same examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.benchmark import statistics
from compress.core import console
from compress.data.examples import Examples
from compress.data.metrics import METRICS
from compress.data.squad import normalize_answer
from compress.data.task import Task
from compress.inference.evaluator import Evaluator
from compress.inference.forward import open_forward
from compress.models.config import read_config
from compress.models.label_mapping import NO_CLASS, map_labels
from compress.results import EvalDocument
from compress.settings import EvalSettings
from compress.stage import ERRORS_FILE, Inputs

SHOWN_CLASSES = 20  # a confusion matrix beyond this is no picture any more


def run(inputs: Inputs, settings: EvalSettings, output: Path) -> EvalDocument:
    """Evaluate every source on one split of the task; returns the document that `eval --json` prints."""
    task = inputs.task
    split = task.evaluation_split(settings.split)
    examples = task.split(split)
    answers: dict[str, Any] = {}
    results: list[dict[str, Any]] = []
    rows: dict[str, list[np.ndarray]] = {}
    for name, folder in inputs.sources.items():
        evaluator = Evaluator(task, split, folder, map_labels(read_config(folder), task, name))
        forward = open_forward(folder, settings.device)
        answers[name] = evaluator.predict(forward, batch_size=settings.batch_size, label=f"{name} on {split}")
        rows[name] = [METRICS[metric].rows(examples.labels, answers[name], task.label_names) for metric in task.spec.metrics]
        first = next(iter(rows.values())) if len(rows) > 1 else None
        results.append({"model": name, **describe(task.spec.metrics, rows[name], first), **per_class(examples, answers[name], task)})
        main = results[-1]["metrics"][task.spec.main_metric]
        console.info(f"  {name}: {task.spec.main_metric} {100 * main:.2f}")
    mistakes = list_errors(examples, answers, task)
    (output / ERRORS_FILE).write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in mistakes), encoding="utf-8")
    return {
        "task": task.spec.name,
        "split": split,
        "n": len(examples),
        "main_metric": task.spec.main_metric,
        "results": results,
        "errors": {"n": len(mistakes), "disagreements": sum(entry["disagree"] for entry in mistakes)},
        "metrics": {entry["model"]: entry["metrics"] for entry in results},
    }


def describe(names: Sequence[str], rows: Sequence[np.ndarray], first: Sequence[np.ndarray] | None) -> dict[str, Any]:
    """Return metrics, 95 % intervals and (given the first model's rows) the paired comparison of the first metric.

    Args:
        names: of the metrics.
        rows: one array a metric, (n, k) as `Metric.rows` makes them.
        first: the same of the first model, or None for the first model itself.
    """
    document: dict[str, Any] = {
        "metrics": {name: METRICS[name].score(found) for name, found in zip(names, rows, strict=True)},
        "ci95": {name: interval(name, found) for name, found in zip(names, rows, strict=True)},
    }
    if first is not None:
        document["vs_first"] = compare(names[0], first[0], rows[0])
    return document


def interval(name: str, rows: np.ndarray) -> list[float]:
    """Return the 95 % interval of a metric: Wilson's for a share of examples, the bootstrap's over examples otherwise."""
    if is_share(name, rows):
        return list(statistics.wilson_interval(int(rows.sum()), len(rows)))
    metric = METRICS[name]
    return list(statistics.bootstrap_interval(lambda picked: metric.score(rows[picked]), len(rows)))


def compare(name: str, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Return the second model's metric minus the first's, with a paired bootstrap interval and a p value.

    The p value is McNemar's where the metric is a share of examples, and the paired bootstrap's otherwise.
    """
    metric = METRICS[name]
    differences = np.array(
        [metric.score(second[picked]) - metric.score(first[picked]) for picked in statistics.resampled_positions(len(first))]
    )
    share = is_share(name, first)
    p_value = statistics.mcnemar_p(first[:, 0] > 0, second[:, 0] > 0) if share else statistics.bootstrap_p(differences)
    return {
        "metric": name,
        "delta": metric.score(second) - metric.score(first),
        "ci95": list(statistics.percentile_interval(differences)),
        "p_value": p_value,
        "test": "McNemar" if share else "paired bootstrap",
    }


def is_share(name: str, rows: np.ndarray) -> bool:
    """Tell whether a metric is the share of examples that are right (not so: accuracy over the tokens of sentences)."""
    return METRICS[name].right and rows.shape[1] == 1


def per_class(examples: Examples, answers: Any, task: Task) -> dict[str, Any]:
    """Return precision, recall, F1 and support of every label, and for few classes the confusion matrix (rows: true)."""
    if task.spec.target not in ("class", "labels", "tags"):
        return {}
    names = task.label_names
    true, found = (_indicators(side, len(names)) for side in (examples.labels, answers))
    hits, given, support = (true & found).sum(0), found.sum(0), true.sum(0)
    table = [
        {
            "label": name,
            "precision": float(hits[i] / given[i]) if given[i] else None,
            "recall": float(hits[i] / support[i]) if support[i] else None,
            "f1": float(2 * hits[i] / (given[i] + support[i])) if given[i] + support[i] else None,
            "n": int(support[i]),
        }
        for i, name in enumerate(names)
    ]
    if task.spec.target == "labels" or len(names) > SHOWN_CLASSES:
        return {"per_class": table}
    return {"per_class": table, "confusion": (true.T.astype(np.int64) @ found.astype(np.int64)).tolist()}


def _indicators(side: Any, count: int) -> np.ndarray:
    """Return which label each example (of tags: each word) has, (n, labels) booleans."""
    if isinstance(side, list):
        side = np.concatenate(side)
    return side.astype(bool) if side.ndim == 2 else side[:, None] == np.arange(count)


def list_errors(examples: Examples, answers: dict[str, Any], task: Task) -> list[dict[str, Any]]:
    """Return every example that some model gets wrong or on which two models disagree, disagreements first.

    A value counts as wrong from half of the gold's standard deviation on, as a disagreement likewise.
    """
    margin = float(np.std(examples.labels)) / 2 if task.spec.target == "value" else 0.0
    found = []
    for position, texts in enumerate(examples.texts):
        gold = _readable(examples.labels[position], task, gold=True)
        said = {name: _readable(of_model[position], task) for name, of_model in answers.items()}
        wrong = [name for name, answer in said.items() if not _agree(answer, gold, margin, task)]
        first = next(iter(said.values()))
        disagree = any(not _agree(answer, first, margin, task) for answer in said.values())
        if wrong or disagree:
            text = " ".join(texts) if task.spec.target == "tags" else list(texts) if len(texts) > 1 else "".join(texts)
            found.append({"row": position, "text": text, "gold": gold, "answers": said, "wrong": wrong, "disagree": disagree})
    return sorted(found, key=lambda entry: (not entry["disagree"], entry["row"]))


def _readable(value: Any, task: Task, gold: bool = False) -> Any:
    """Write an example's label in words."""
    names, target = task.label_names, task.spec.target
    if target == "class":
        return names[int(value)] if int(value) != NO_CLASS else None
    if target == "labels":
        return [name for name, set_ in zip(names, value, strict=True) if set_]
    if target == "value":
        return float(value)
    if target == "tags":
        return [names[int(tag)] if tag >= 0 else None for tag in value]
    return [text for _, text in value] if gold else value


def _agree(answer: Any, other: Any, margin: float, task: Task) -> bool:
    if task.spec.target == "value":
        return abs(answer - other) <= margin
    if task.spec.target == "span":
        texts = other if isinstance(other, list) else [other]
        return normalize_answer(answer) in {normalize_answer(text) for text in texts or [""]}
    return answer == other
