"""The table of labels, against scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from compress.benchmark.class_metrics import MAX_CONFUSION_CLASSES, class_metrics
from compress.data.examples import Examples, Labels

RNG = np.random.default_rng(0)


def tables(labels: Labels, predictions: Labels, target: str, names: list[str]) -> Any:
    task: Any = SimpleNamespace(spec=SimpleNamespace(target=target), class_names=names)
    return class_metrics(Examples([("text",)] * len(labels), labels), predictions, task)


def assert_scores(rows: Any, labels: np.ndarray, predictions: np.ndarray, count: int) -> None:
    *scores, support = precision_recall_fscore_support(labels, predictions, labels=range(count), zero_division=0.0)
    for name, column in zip(("precision", "recall", "f1"), scores, strict=True):
        assert [row[name] or 0.0 for row in rows] == pytest.approx(column.tolist())
    assert [row["n"] for row in rows] == support.tolist()


def test_classes() -> None:
    labels, predictions = RNG.integers(0, 3, (2, 60))
    table = tables(labels, predictions, "class", ["a", "b", "c"])
    assert [row["label"] for row in table["per_class"]] == ["a", "b", "c"]
    assert_scores(table["per_class"], labels, predictions, 3)
    assert table["confusion"] == confusion_matrix(labels, predictions).tolist()


def test_sets_of_labels_have_no_confusion_matrix() -> None:
    labels, predictions = RNG.integers(0, 2, (2, 60, 3)).astype(np.float32)
    table = tables(labels, predictions, "labels", ["a", "b", "c"])
    assert_scores(table["per_class"], labels, predictions, 3)
    assert "confusion" not in table


def test_tags_count_by_word() -> None:
    labels, predictions = ([RNG.integers(0, 3, length) for length in (4, 1, 7)] for _ in range(2))
    table = tables(labels, predictions, "tags", ["O", "B", "I"])
    assert_scores(table["per_class"], np.concatenate(labels), np.concatenate(predictions), 3)
    assert np.sum(table["confusion"]) == 12


def test_a_class_that_never_occurs_has_no_scores() -> None:
    table = tables(np.array([0, 0]), np.array([0, 0]), "class", ["a", "b"])
    assert table["per_class"][1] == {"label": "b", "precision": None, "recall": None, "f1": None, "n": 0}


def test_a_label_that_only_the_model_knows_is_counted() -> None:
    table = tables(np.array([[1.0], [0.0]]), np.array([[1.0, 1.0], [0.0, 1.0]]), "labels", ["a", "of the model"])
    assert [(row["precision"], row["n"]) for row in table["per_class"]] == [(1.0, 1), (0.0, 0)]


def test_many_classes_have_no_confusion_matrix() -> None:
    for count in (MAX_CONFUSION_CLASSES, MAX_CONFUSION_CLASSES + 1):
        table = tables(np.arange(count), np.arange(count), "class", [str(number) for number in range(count)])
        assert ("confusion" in table) == (count == MAX_CONFUSION_CLASSES)


@pytest.mark.parametrize("target", ["value", "span"])
def test_values_and_spans_have_no_classes(target: str) -> None:
    assert tables(np.zeros(2), np.zeros(2), target, []) == {}
