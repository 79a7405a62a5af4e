"""Metrics as the benchmarks define them, in two steps: terms per example (`metric_rows`), and a score of any number of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from compress.data import metric_rows, ranking_metrics
from compress.data.examples import Labels, Predictions
from compress.data.judgements import Judgements
from compress.data.rankings import DocumentRanking

Label = TypeVar("Label", bound=Labels | Judgements)
Predicted = TypeVar("Predicted", bound=Predictions | list[DocumentRanking])
Score = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Metric(Generic[Label, Predicted]):
    """A metric.

    `rows(labels, predictions, label names)` returns (n, k) numbers, one row per example; `score(rows)` returns the metric of any
    number of rows. `right` says that the rows are (n, 1) zeros and ones and the score is their mean.
    """

    rows: Callable[[Label, Predicted, Sequence[str]], np.ndarray]
    score: Score
    right: bool = False

    def __call__(self, labels: Label, predictions: Predicted, names: Sequence[str] = ()) -> float:
        """Return the metric of all examples."""
        return self.score(self.rows(labels, predictions, names))


def _mean(rows: np.ndarray) -> float:
    return float(rows.mean())


def _accuracy(rows: np.ndarray) -> float:
    """Mean of one column; of two the sum of the first over that of the second."""
    if rows.shape[1] == 1:
        return _mean(rows)
    hits, count = rows.sum(axis=0)
    return float(hits / count) if count else 0.0


def _f1_of_counts(rows: np.ndarray) -> float:
    """2 TP / (predicted + actual), the harmonic mean of precision and recall; 0 if there are neither."""
    hits, predicted, actual = rows.sum(axis=0)
    return float(2 * hits / (predicted + actual)) if predicted + actual else 0.0


def _macro_f1(rows: np.ndarray) -> float:
    """Mean of the F1 of the classes that occur in labels or predictions; of a multi-label task, of all labels."""
    hits, predicted, actual, always = rows.sum(axis=0).reshape(4, -1)
    counted = predicted + actual + always > 0
    return float(np.mean(2 * hits[counted] / np.maximum(predicted + actual, 1)[counted])) if counted.any() else 0.0


def _matthews(rows: np.ndarray) -> float:
    """Matthews' correlation of any number of classes (Gorodkin 2004), as GLUE reports it for CoLA; 0 if undefined."""
    labels, predictions = rows[:, 0].astype(int), rows[:, 1].astype(int)
    lowest = min(labels.min(), predictions.min())
    size = int(max(labels.max(), predictions.max()) - lowest) + 1
    table = np.bincount((labels - lowest) * size + (predictions - lowest), minlength=size * size).reshape(size, size).astype(np.float64)
    actual, predicted, n = table.sum(1), table.sum(0), table.sum()
    spread = np.sqrt((n * n - (actual**2).sum()) * (n * n - (predicted**2).sum()))
    return float((np.trace(table) * n - actual @ predicted) / spread) if spread else 0.0


def _pearson(rows: np.ndarray) -> float:
    """Pearson's correlation; 0 if one side is constant."""
    centred = rows - rows.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0).prod())
    return float(centred.prod(axis=1).sum() / spread) if spread else 0.0


def _spearman(rows: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, ties averaged."""
    from scipy.stats import rankdata

    return _pearson(np.stack([rankdata(rows[:, 0]), rankdata(rows[:, 1])], axis=1))


def _bias(rows: np.ndarray) -> float:
    """F1 of feminine pronouns over F1 of masculine ones (Webster et al. 2018, section 4); 0 if either is 0, where it is undefined."""
    feminine, masculine = _f1_of_counts(rows[:, :3]), _f1_of_counts(rows[:, 3:])
    return feminine / masculine if masculine else 0.0


METRICS: dict[str, Metric[Any, Any]] = {
    "accuracy": Metric(metric_rows.correct, _accuracy, right=True),
    "f1": Metric(metric_rows.counts_of_class_one, _f1_of_counts),
    "macro_f1": Metric(metric_rows.counts_per_class, _macro_f1),
    "micro_f1": Metric(metric_rows.label_set_counts, _f1_of_counts),
    "matthews": Metric(metric_rows.pairs, _matthews),
    "pearson": Metric(metric_rows.pairs, _pearson),
    "spearman": Metric(metric_rows.pairs, _spearman),
    "entity_f1": Metric(metric_rows.entity_counts, _f1_of_counts),
    "word_f1": Metric(metric_rows.word_counts, _f1_of_counts),
    "exact_match": Metric(metric_rows.exact_match, _mean, right=True),
    "squad_f1": Metric(metric_rows.squad_f1, _mean),
    "ndcg@10": Metric(ranking_metrics.ndcg_at_10, _mean),
    "mrr@10": Metric(ranking_metrics.reciprocal_rank_at_10, _mean),
    "recall@100": Metric(ranking_metrics.recall_at_100, _mean),
    "map": Metric(ranking_metrics.average_precision, _mean),
    "cosine": Metric(metric_rows.cosine, _mean),
    "gap_f1": Metric(metric_rows.antecedent_counts, _f1_of_counts),
    "gap_f1_masculine": Metric(metric_rows.masculine_counts, _f1_of_counts),
    "gap_f1_feminine": Metric(metric_rows.feminine_counts, _f1_of_counts),
    "gap_bias": Metric(metric_rows.counts_by_gender, _bias),
}


def compute(
    metrics: Sequence[str], labels: Labels | Judgements, predictions: Predictions | list[DocumentRanking], label_names: Sequence[str] = ()
) -> dict[str, float]:
    """Compute the metrics of these names.

    Args:
        metrics: names.
        labels: in the form of `Examples.labels`; of a retrieval task its judgements.
        predictions: in the same form; of a retrieval task the ranking of each judged query.
        label_names: of the task.
    """
    return {name: METRICS[name](labels, predictions, label_names) for name in metrics}


def points_lost(before: float, after: float) -> float:
    """Return by how many hundredths a score fell, without the rounding error that makes 2 points 2.0000000000000018."""
    return round(100 * (before - after), 9)


def describe_drop(points: float) -> str:
    """Return a drop in points in words.

    >>> describe_drop(1.5), describe_drop(-0.333), describe_drop(0.0)
    ('1.50 points lost', '0.33 points gained', 'no loss')
    """
    if round(abs(points), 2) == 0:
        return "no loss"
    return f"{abs(points):.2f} points {'lost' if points > 0 else 'gained'}"
