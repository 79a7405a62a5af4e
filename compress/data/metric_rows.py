"""Per-example terms of the metrics: (n, k) float64, from which a score follows by sums, so that a bootstrap only resamples rows.

Every function takes labels and predictions in the form of `Examples.labels`, and the label names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from compress.data.answers import Answer
from compress.data.mentions import CHOICE, FEMININE, GENDER, MASCULINE, NEITHER
from compress.data.sentence_texts import cosines
from compress.data.squad import answer_f1, normalize_answer, same_answer

Names = Sequence[str]  # label names
Tags = list[np.ndarray]


def correct(labels: np.ndarray | Tags, predictions: np.ndarray | Tags, names: Names) -> np.ndarray:
    """Return 1 for each correct example, (n, 1); of tags the correct ones and the number of all, (n, 2)."""
    if isinstance(labels, list):
        return np.array([[np.sum(a == b), len(a)] for a, b in zip(labels, predictions, strict=True)], dtype=np.float64)
    if labels.ndim == 2:
        labels, predictions = _same_width(labels, np.asarray(predictions))
        return np.all(labels == predictions, axis=1).astype(np.float64).reshape(-1, 1)
    right = np.asarray(labels == predictions)
    return right.astype(np.float64).reshape(-1, 1)


def pairs(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return each label with its prediction, (n, 2)."""
    return np.stack([np.asarray(labels), np.asarray(predictions)], axis=1).astype(np.float64)


def cosine(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return the cosine of each vector, (n, size), with that of a reference model, (n, 1)."""
    return cosines(labels, predictions).astype(np.float64).reshape(-1, 1)


def counts_of_class_one(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return true positives, predicted and actual ones of class 1, (n, 3)."""
    return np.stack([(labels == 1) & (predictions == 1), predictions == 1, labels == 1], axis=1).astype(np.float64)


def label_set_counts(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return true positives, predicted and actual labels over all labels, (n, 3)."""
    labels, predictions = _same_width(labels, predictions)
    return np.stack([(labels * predictions).sum(1), predictions.sum(1), labels.sum(1)], axis=1).astype(np.float64)


def counts_per_class(labels: np.ndarray | Tags, predictions: np.ndarray | Tags, names: Names) -> np.ndarray:
    """Return true positives, predicted and actual ones of every class, and ones if it counts although absent, (n, 4 * classes).

    As in scikit-learn, a label of a multi-label task counts although absent, with an F1 of 0, and a class that is absent from labels
    and predictions does not.
    """
    if isinstance(labels, list):
        return _tag_counts_per_class(labels, predictions)
    predicted = np.asarray(predictions)
    if labels.ndim == 2:
        labels, predicted = _same_width(labels, predicted)
        return np.concatenate([labels * predicted, predicted, labels, np.ones_like(labels)], axis=1).astype(np.float64)
    classes = np.arange(1 + max(labels.max(), predicted.max()))
    actual, given = labels[:, None] == classes, predicted[:, None] == classes
    return np.concatenate([actual & given, given, actual, np.zeros_like(actual)], axis=1).astype(np.float64)


def _tag_counts_per_class(labels: Tags, predictions: np.ndarray | Tags) -> np.ndarray:
    highest = (int(max(a.max(), b.max())) for a, b in zip(labels, predictions, strict=True) if len(a))
    count = 1 + max(highest, default=0)
    rows = []
    for actual, given in zip(labels, predictions, strict=True):
        hits = np.bincount(actual[actual == given], minlength=count)
        predicted, true = np.bincount(given[given >= 0], minlength=count), np.bincount(actual, minlength=count)
        rows.append(np.concatenate([hits, predicted, true, np.zeros(count)]))
    return np.array(rows, dtype=np.float64)


def widened(matrix: np.ndarray, count: int) -> np.ndarray:
    """Return zeros and ones for `count` labels: zeros for those that the matrix lacks."""
    return np.pad(matrix, ((0, 0), (0, count - matrix.shape[1])))


def _same_width(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both for the same labels: a model may predict labels that the task lacks."""
    count = max(labels.shape[1], predictions.shape[1])
    return widened(labels, count), widened(predictions, count)


def entity_counts(labels: Tags, predictions: Tags, names: Names) -> np.ndarray:
    """Return true positives, predicted and actual entities, (n, 3), as seqeval finds them (default mode, CoNLL's conlleval)."""
    from seqeval.metrics.sequence_labeling import get_entities  # pyright: ignore[reportMissingTypeStubs]

    def entities(tags: np.ndarray) -> set[object]:
        return set(get_entities(_tag_names(tags, names, "O")))

    return _set_counts([entities(tags) for tags in labels], [entities(tags) for tags in predictions])


def word_counts(labels: Tags, predictions: Tags, names: Names) -> np.ndarray:
    """Return true positives, predicted and actual words, (n, 3), as the SIGHAN bakeoffs score word segmentation."""

    def words(tags: np.ndarray) -> set[tuple[int, int]]:
        return words_from_tags(_tag_names(tags, names, "S"))

    return _set_counts([words(tags) for tags in labels], [words(tags) for tags in predictions])


def _tag_names(tags: np.ndarray, names: Names, ignored: str) -> list[str]:
    """Return the name of each tag, and `ignored` for a negative one."""
    numbers: list[int] = tags.tolist()
    return [names[number] if number >= 0 else ignored for number in numbers]


def words_from_tags(tags: Sequence[str]) -> set[tuple[int, int]]:
    """Return the words that B/M/E/S tags cut a line into, as (first, last) character.

    A word ends at E, at S, before B or S, and at the end of the line, so that any sequence of tags cuts the whole line.
    """
    words, start = set(), 0
    for position, tag in enumerate(tags):
        if position > start and tag[:1] in "BS":
            words.add((start, position - 1))
            start = position
        if tag[:1] in "ES":
            words.add((start, position))
            start = position + 1
    if start < len(tags):
        words.add((start, len(tags) - 1))
    return words


def exact_match(labels: list[list[Answer]], predictions: list[str], names: Names) -> np.ndarray:
    """Return 1 for each prediction that equals one of the answers, (n, 1)."""
    return _best_answer(labels, predictions, same_answer)


def squad_f1(labels: list[list[Answer]], predictions: list[str], names: Names) -> np.ndarray:
    """Return the F1 of each prediction with the answer that fits best, (n, 1)."""
    return _best_answer(labels, predictions, answer_f1)


def _best_answer(labels: list[list[Answer]], predictions: list[str], measure: Callable[[str, str], float]) -> np.ndarray:
    rows = []
    for answers, predicted in zip(labels, predictions, strict=True):
        texts = [text for _, text in answers if normalize_answer(text)] or [""]
        rows.append([max(measure(text, predicted) for text in texts)])
    return np.array(rows, dtype=np.float64)


def antecedent_counts(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return true positives, predicted and actual antecedents, (n, 3): both names are judged, as GAP's scorer does."""
    actual = labels[:, CHOICE]
    given = predictions != NEITHER
    return np.stack([given & (predictions == actual), given, actual != NEITHER], axis=1).astype(np.float64)


def masculine_counts(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return the counts of `antecedent_counts` where the pronoun is masculine, else zeros, (n, 3)."""
    return antecedent_counts(labels, predictions, names) * (labels[:, [GENDER]] == MASCULINE)


def feminine_counts(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return the counts of `antecedent_counts` where the pronoun is feminine, else zeros, (n, 3)."""
    return antecedent_counts(labels, predictions, names) * (labels[:, [GENDER]] == FEMININE)


def counts_by_gender(labels: np.ndarray, predictions: np.ndarray, names: Names) -> np.ndarray:
    """Return the feminine and then the masculine counts, (n, 6)."""
    return np.concatenate([count(labels, predictions, names) for count in (feminine_counts, masculine_counts)], axis=1)


def _set_counts(actual: Sequence[set], predicted: Sequence[set]) -> np.ndarray:
    rows = [[len(a & b), len(b), len(a)] for a, b in zip(actual, predicted, strict=True)]
    return np.array(rows, dtype=np.float64)
