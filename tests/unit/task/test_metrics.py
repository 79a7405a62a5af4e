"""Metrics against scikit-learn and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from compress.task.metrics import METRICS, accuracy, compute, f1, macro_f1, matthews

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40).map(lambda rows: np.array(rows).T)
MANY = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40).map(lambda rows: np.array(rows).T)


@given(MANY)
def test_accuracy_and_macro_f1(pair: np.ndarray) -> None:
    labels, predictions = pair
    assert accuracy(labels, predictions) == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    classes = sorted(set(labels.tolist()) | set(predictions.tolist()))
    each = [f1((labels == number).astype(int), (predictions == number).astype(int)) for number in classes]
    assert macro_f1(labels, predictions) == pytest.approx(np.mean(each))


@given(PAIRS)
def test_f1_and_matthews(pair: np.ndarray) -> None:
    labels, predictions = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f1(labels, predictions) == pytest.approx(sklearn.metrics.f1_score(labels, predictions, zero_division=0))
        tp, tn = np.sum((labels == 1) & (predictions == 1)), np.sum((labels == 0) & (predictions == 0))
        fp, fn = np.sum((labels == 0) & (predictions == 1)), np.sum((labels == 1) & (predictions == 0))
        below = float((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
        assert matthews(labels, predictions) == pytest.approx((tp * tn - fp * fn) / below if below else 0.0)


def test_by_hand() -> None:
    labels, predictions = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1])
    assert accuracy(labels, predictions) == pytest.approx(3 / 5)
    assert f1(labels, predictions) == pytest.approx(2 / 3)  # precision 2/3, recall 2/3
    assert matthews(labels, predictions) == pytest.approx((2 * 1 - 1 * 1) / 6)


def test_a_prediction_that_is_no_class_counts_as_wrong() -> None:
    labels, predictions = np.array([0, 1, 1]), np.array([0, -1, 1])
    assert accuracy(labels, predictions) == pytest.approx(2 / 3)
    assert f1(labels, predictions) == pytest.approx(2 / 3)
    assert matthews(labels, predictions) < 1


def test_macro_f1_takes_no_class_for_no_class() -> None:
    """Two classes, one perfect and one with recall 1/2: a prediction outside of the task is no third class."""
    labels, predictions = np.array([0, 1, 1]), np.array([0, -1, 1])
    assert macro_f1(labels, predictions) == pytest.approx((1 + 2 / 3) / 2)


def test_compute_keeps_the_order_and_gives_plain_floats() -> None:
    found = compute(["f1", "accuracy"], np.array([0, 1]), np.array([0, 1]))
    assert list(found.items()) == [("f1", 1.0), ("accuracy", 1.0)]
    assert {type(value) for value in found.values()} == {float}
    assert set(METRICS) == {"accuracy", "f1", "macro_f1", "matthews"}
