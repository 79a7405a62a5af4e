"""The stage `eval`: metrics with intervals, every model paired with the first one on the same examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from compress.benchmark import statistics
from compress.benchmark.class_metrics import class_metrics
from compress.benchmark.disagreements import list_errors
from compress.benchmark.old_index import OldIndex
from compress.core import console
from compress.core.errors import DataError
from compress.data.metrics import METRICS
from compress.inference.batches import run_batches
from compress.inference.evaluator import Evaluator
from compress.inference.forward import open_forward
from compress.inference.kept_outputs import kept_outputs
from compress.models.config import read_config
from compress.models.label_mapping import map_labels
from compress.results import EvalDocument
from compress.results.measurements import Comparison, EvalEntry, IndexDocument
from compress.results.values import Interval, Metrics
from compress.settings import EvalSettings
from compress.stage import ERRORS_FILE, Inputs

INDEX_TOLERANCE = 0.01  # what an old index may cost against new document vectors of the same model


class Scores(TypedDict):
    """The metrics of a model, their intervals, and its comparison with the first model."""

    metrics: Metrics
    ci95: dict[str, Interval]
    vs_first: NotRequired[Comparison]


def run(inputs: Inputs, settings: EvalSettings, output: Path) -> EvalDocument:
    """Evaluate every model on one split of the task, and write the examples with errors or disagreements.

    Vectors of texts without judgements are compared with those of the first model. With a corpus, the queries of every further
    embedder also search the first one's document vectors.

    Raises:
        DataError: the task has no such split, or a model does not know its labels.
    """
    task = inputs.task
    split = task.evaluation_split(settings.split)
    examples = task.split(split)
    with suppress(DataError):  # training data is not needed here
        task.warn_of_overlap([split])
    predictions: dict[str, Any] = {}
    results: list[EvalEntry] = []
    first: list[np.ndarray] | None = None
    old_index: OldIndex | None = None
    for name, folder in inputs.sources.items():
        evaluator = Evaluator(task, split, folder, map_labels(read_config(folder), task, name))

        def compute(name: str = name, folder: Path = folder, evaluator: Evaluator = evaluator) -> Any:
            forward = open_forward(folder, settings.device, target=task.spec.target, pooling=task.spec.pooling, check=settings.check)
            return run_batches(forward, evaluator.data, settings.batch_size, f"{name} on {split}")

        # The first model is the one that others are compared with, again and again.
        asked = [split, settings.device, settings.batch_size, settings.check]
        outputs = compute() if predictions else kept_outputs(folder, task, asked, compute)
        predictions[name] = evaluator.decode(outputs, evaluator.data)
        labels = next(iter(predictions.values())) if task.spec.compares_vectors else examples.labels
        rows = [METRICS[metric].rows(labels, predictions[name], task.class_names) for metric in task.spec.metrics]
        entry: EvalEntry = {"model": name, **score_rows(task.spec.metrics, rows, first), **class_metrics(examples, predictions[name], task)}
        console.info(f"  {name}: {task.spec.main_metric} {100 * entry['metrics'][task.spec.main_metric]:.2f}")
        if old_index is not None and first is not None:
            ranked = old_index.rankings(outputs, folder)
            by_index = None if ranked is None else [METRICS[metric].rows(labels, ranked, task.class_names) for metric in task.spec.metrics]
            entry["index"] = index_document(task.spec.metrics, old_index.model, by_index, first, rows)
        elif first is None and evaluator.corpus_search:
            old_index = OldIndex(name, evaluator.corpus_search, outputs[len(examples) :], folder)
        first = first or rows
        results.append(entry)
    errors = list_errors(examples, predictions, task)
    (output / ERRORS_FILE).write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in errors), encoding="utf-8")
    return {
        "task": task.spec.name,
        "split": split,
        "n": len(examples),
        "main_metric": task.spec.main_metric,
        "results": results,
        "errors": {"n": len(errors), "disagreements": sum(entry["disagree"] for entry in errors)},
        "metrics": {entry["model"]: entry["metrics"] for entry in results},
    }


def score_rows(names: Sequence[str], rows: Sequence[np.ndarray], first: Sequence[np.ndarray] | None) -> Scores:
    """Return metrics, 95 % intervals and, given the first model's rows, the paired comparison of the first metric.

    Args:
        names: of the metrics.
        rows: one array per metric, (n, k), from `Metric.rows`.
        first: the same of the first model; None for the first model itself.
    """
    scores: Scores = {
        "metrics": {name: METRICS[name].score(of_metric) for name, of_metric in zip(names, rows, strict=True)},
        "ci95": {name: metric_interval(name, of_metric) for name, of_metric in zip(names, rows, strict=True)},
    }
    if first is not None:
        scores["vs_first"] = compare(names[0], first[0], rows[0])
    return scores


def index_document(
    names: Sequence[str], model: str, rows: Sequence[np.ndarray] | None, first: Sequence[np.ndarray], own: Sequence[np.ndarray]
) -> IndexDocument:
    """Return whether the first model's document vectors can be kept, and at what cost.

    Args:
        names: of the metrics.
        model: the first model.
        rows: of this model's queries on the first one's documents, as in `score_rows`; None if their vectors have different sizes.
        first: of the first model's queries and documents.
        own: of this model's queries and documents.
    """
    if rows is None:
        return {"of": model, "valid": False}
    against_own = compare(names[0], own[0], rows[0])
    scores = score_rows(names, rows, None)
    return {
        "of": model,
        "valid": against_own["delta"] >= -INDEX_TOLERANCE,
        "metrics": scores["metrics"],
        "ci95": scores["ci95"],
        "vs_first": compare(names[0], first[0], rows[0]),
        "vs_own": against_own,
    }


def metric_interval(name: str, rows: np.ndarray) -> Interval:
    """Return the 95 % interval of a metric: Wilson's for a share of examples, else the bootstrap's over examples."""
    if is_share(name, rows):
        return list(statistics.wilson_interval(int(rows.sum()), len(rows)))
    metric = METRICS[name]
    return list(statistics.bootstrap_interval(lambda picked: metric.score(rows[picked]), len(rows)))


def compare(name: str, first: np.ndarray, second: np.ndarray) -> Comparison:
    """Return the second model's metric minus the first's, with a paired bootstrap interval and a p value.

    The p value is McNemar's if the metric is a share of examples, else the paired bootstrap's.
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
    """Return whether a metric is the share of examples that are right (accuracy over the tokens of sentences is not)."""
    return METRICS[name].right and rows.shape[1] == 1
