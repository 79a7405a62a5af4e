"""Metrics against scikit-learn and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from compress.data.metric_rows import words_from_tags
from compress.data.metrics import METRICS, compute
from compress.data.squad import answer_f1

accuracy, f1, macro_f1, matthews = (METRICS[name] for name in ("accuracy", "f1", "macro_f1", "matthews"))
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


@given(MANY)
def test_matthews_of_many_classes_is_scikit_learns(pair: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert matthews(*pair) == pytest.approx(sklearn.metrics.matthews_corrcoef(*pair), abs=1e-12)


def test_several_labels_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    gold, answers = ((rng.random((50, 4)) < 0.4).astype(np.float32) for _ in range(2))
    assert METRICS["micro_f1"](gold, answers) == pytest.approx(sklearn.metrics.f1_score(gold, answers, average="micro"))
    assert macro_f1(gold, answers) == pytest.approx(sklearn.metrics.f1_score(gold, answers, average="macro"))
    assert accuracy(gold, answers) == pytest.approx(sklearn.metrics.accuracy_score(gold, answers))  # all labels right


def test_correlations_are_scipys_and_a_constant_has_none() -> None:
    import scipy.stats

    rng = np.random.default_rng(0)
    gold = np.round(5 * rng.random(80), 1)  # with ties
    answers = gold + rng.normal(size=80)
    assert METRICS["pearson"](gold, answers) == pytest.approx(scipy.stats.pearsonr(gold, answers)[0])
    assert METRICS["spearman"](gold, answers) == pytest.approx(scipy.stats.spearmanr(gold, answers)[0])
    assert METRICS["spearman"](gold, np.ones(80)) == METRICS["pearson"](gold, np.ones(80)) == 0.0


NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def numbered(*sentences: str) -> list[np.ndarray]:
    """Tags as numbers."""
    return [np.array([NAMES.index(tag) for tag in sentence.split()]) for sentence in sentences]


def test_entities_are_seqevals() -> None:
    import seqeval.metrics

    gold = numbered("B-PER I-PER O B-LOC", "O B-LOC I-LOC O", "O O", "B-PER B-PER")
    answers = numbered("B-PER I-PER O B-PER", "O B-LOC O O", "O I-LOC", "B-PER B-PER")
    words = [[[NAMES[tag] for tag in sentence] for sentence in side] for side in (gold, answers)]
    assert METRICS["entity_f1"](gold, answers, NAMES) == pytest.approx(seqeval.metrics.f1_score(*words))
    assert accuracy(gold, answers) == pytest.approx(9 / 12)


def test_a_word_without_a_tag_counts_as_wrong() -> None:
    gold = numbered("B-PER O")
    answers = [np.array([1, -1])]
    assert accuracy(gold, answers) == 0.5
    assert METRICS["entity_f1"](gold, answers, NAMES) == 1.0
    assert macro_f1(gold, answers) == pytest.approx((1 + 0) / 2)


def test_words_from_tags() -> None:
    assert words_from_tags(list("BESBME")) == {(0, 1), (2, 2), (3, 5)}
    assert words_from_tags(list("BB")) == {(0, 0), (1, 1)}  # impossible sequences still cut the whole line
    assert words_from_tags(list("MMS")) == {(0, 1), (2, 2)}
    assert words_from_tags([]) == set()
    tags = ["B", "M", "E", "S"]
    gold, answers = [np.array([0, 2, 3])], [np.array([3, 3, 3])]  # one of two words found, among three
    assert METRICS["word_f1"](gold, answers, tags) == pytest.approx(2 * 1 / (3 + 2))


def test_squads_own_examples() -> None:
    """From the official script: case, punctuation and articles do not count; the best of several answers does."""
    gold = [[(0, "the Denver Broncos"), (0, "Broncos")], [(0, "24–10")], []]
    assert METRICS["exact_match"](gold, ["Denver Broncos!", "24-10", ""]) == pytest.approx(2 / 3)  # a dash is no hyphen
    assert answer_f1("in the year 1999", "1999") == pytest.approx(2 * 1 / 4)
    assert answer_f1("", "") == 1.0
    assert answer_f1("something", "") == 0.0
    assert METRICS["squad_f1"](gold, ["the Broncos of Denver", "24–10", "x"]) == pytest.approx((2 * 2 / 5 + 1 + 0) / 3)


@given(MANY)
def test_a_score_of_all_rows_is_the_metric(pair: np.ndarray) -> None:
    """The metric is computed from the rows that the bootstrap resamples: the order of examples does not matter."""
    for name in ("accuracy", "macro_f1", "matthews", "spearman"):
        rows = METRICS[name].rows(*pair, ())
        assert METRICS[name].score(rows[::-1]) == pytest.approx(METRICS[name](*pair), abs=1e-12)


def test_a_label_that_only_the_model_knows_counts_as_wrong() -> None:
    labels = np.array([[1, 0], [0, 1]], dtype=np.float32)
    predictions = np.array([[1, 0, 1], [0, 1, 0]], dtype=np.float32)
    padded = np.pad(labels, ((0, 0), (0, 1)))
    assert METRICS["micro_f1"](labels, predictions) == pytest.approx(sklearn.metrics.f1_score(padded, predictions, average="micro"))
    assert macro_f1(labels, predictions) == pytest.approx(sklearn.metrics.f1_score(padded, predictions, average="macro", zero_division=0))
    assert accuracy(labels, predictions) == 0.5


def test_a_label_without_rows_counts_as_in_scikit_learn() -> None:
    labels = np.array([[1, 0], [1, 0]], dtype=np.float32)
    assert macro_f1(labels, labels) == pytest.approx(sklearn.metrics.f1_score(labels, labels, average="macro", zero_division=0)) == 0.5


def mention_labels(rows: list[tuple[int, int]]) -> np.ndarray:
    """Labels of mention pairs with these antecedents and genders; where the mentions stand does not matter."""
    return np.array([[0] * 6 + list(row) for row in rows])


def test_gap_by_hand() -> None:
    """As GAP's scorer counts: each name is a decision; wrong name: one false positive and one false negative."""
    a, b, neither, he, she = 0, 1, 2, 1, 2
    labels = mention_labels([(a, he), (b, he), (neither, he), (a, she), (b, she), (neither, she), (a, she), (a, 0)])
    predictions = np.array([a, a, a, a, neither, neither, b, a])
    found = compute(["gap_f1", "gap_f1_masculine", "gap_f1_feminine", "gap_bias"], labels, predictions)
    # he: tp 1 (row 1), fp 2 (rows 2, 3), fn 1 (row 2); she: tp 1 (row 4), fp 1 (row 7), fn 2 (rows 5, 7); unknown: tp 1
    assert found["gap_f1_masculine"] == pytest.approx(2 / (2 + 2 + 1))
    assert found["gap_f1_feminine"] == pytest.approx(2 / (2 + 1 + 2))
    assert found["gap_f1"] == pytest.approx(2 * 3 / (2 * 3 + 3 + 3))
    assert found["gap_bias"] == pytest.approx(1)


def test_gap_bias_is_feminine_over_masculine() -> None:
    labels = mention_labels([(0, 1), (0, 1), (0, 2), (0, 2)])
    assert METRICS["gap_bias"](labels, np.array([0, 0, 0, 2])) == pytest.approx(2 / 3)
    assert METRICS["gap_bias"](labels, np.array([2, 2, 0, 0])) == 0  # undefined
    assert METRICS["gap_bias"](labels, np.array([0, 0, 2, 2])) == 0


PRONOUNS = {"he": 1, "she": 2}
GAP_ROWS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["he", "she"]), st.integers(0, 2)), min_size=1, max_size=30)


@given(GAP_ROWS)
def test_gap_against_its_scorers_tables(rows: list[tuple[int, str, int]]) -> None:
    """The tallies of `gap_scorer.py`, written out: precision and recall over both names of every example."""

    def scorer(kept: list[tuple[int, str, int]]) -> float:
        pairs = [(actual == name, given == name) for actual, _, given in kept for name in (0, 1)]
        tp = sum(gold and system for gold, system in pairs)
        fp, fn = sum(system and not gold for gold, system in pairs), sum(gold and not system for gold, system in pairs)
        recall, precision = tp / (tp + fn) if tp + fn else 0.0, tp / (tp + fp) if tp + fp else 0.0
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    labels, predictions = mention_labels([(actual, PRONOUNS[word]) for actual, word, _ in rows]), np.array([row[2] for row in rows])
    by_word = {word: scorer([row for row in rows if row[1] == word]) for word in PRONOUNS}
    assert METRICS["gap_f1"](labels, predictions) == pytest.approx(scorer(rows))
    assert METRICS["gap_f1_masculine"](labels, predictions) == pytest.approx(by_word["he"])
    assert METRICS["gap_f1_feminine"](labels, predictions) == pytest.approx(by_word["she"])
    expected = by_word["she"] / by_word["he"] if by_word["he"] else 0.0
    assert METRICS["gap_bias"](labels, predictions) == pytest.approx(expected)
