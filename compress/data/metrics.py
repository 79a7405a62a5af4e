"""Metrics as the benchmarks define them, in two steps: a row of numbers an example, and a score of many rows.

A bootstrap resamples rows, so that a score of a thousand resamples costs no second look at the answers.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Callable[[Any, Any, Sequence[str]], np.ndarray]
Score = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """A metric.

    `rows(gold, answers, label names)` returns (n, k) numbers, one row an example; `score(rows)` the metric of any
    number of rows. `right` says that the rows are (n, 1) zeros and ones and the score their mean.
    """

    rows: Rows
    score: Score
    right: bool = False

    def __call__(self, gold: Any, answers: Any, names: Sequence[str] = ()) -> float:
        """Return the metric of all examples."""
        return self.score(self.rows(gold, answers, names))


def _mean(rows: np.ndarray) -> float:
    return float(rows.mean())


def _ratio(rows: np.ndarray) -> float:
    """Sum of the first column over the sum of the second."""
    top, bottom = rows.sum(axis=0)
    return float(top / bottom) if bottom else 0.0


def _f1_of_counts(rows: np.ndarray) -> float:
    """2 hits / (found + true), the harmonic mean of precision and recall; 0 where there is neither."""
    hits, found, true = rows.sum(axis=0)
    return float(2 * hits / (found + true)) if found + true else 0.0


def _equal(gold: Any, answers: Any, names: Sequence[str]) -> np.ndarray:
    if isinstance(gold, list):  # tags: hits and words of each sentence
        return np.array([[np.sum(a == b), len(a)] for a, b in zip(gold, answers, strict=True)], dtype=np.float64)
    same = gold == answers
    return (same.all(axis=1) if same.ndim == 2 else same).astype(np.float64)[:, None]


def _accuracy(rows: np.ndarray) -> float:
    return _ratio(rows) if rows.shape[1] == 2 else _mean(rows)


def _counts_of_class_one(gold: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return np.stack([(gold == 1) & (answers == 1), answers == 1, gold == 1], axis=1).astype(np.float64)


def _label_counts(gold: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Hits, found and true labels of each example, over all labels."""
    return np.stack([(gold * answers).sum(1), answers.sum(1), gold.sum(1)], axis=1).astype(np.float64)


def _pairs(gold: Any, answers: Any, names: Sequence[str]) -> np.ndarray:
    return np.stack([np.asarray(gold), np.asarray(answers)], axis=1).astype(np.float64)


def _class_counts(gold: Any, answers: Any, names: Sequence[str]) -> np.ndarray:
    """Hits, found and true of every label, one row an example: (n, 3 * labels)."""
    if isinstance(gold, list):
        count = 1 + max((int(max(a.max(), b.max())) for a, b in zip(gold, answers, strict=True) if len(a)), default=0)
        rows = []
        for true, found in zip(gold, answers, strict=True):
            hits = np.bincount(true[true == found], minlength=count)
            rows.append(np.concatenate([hits, np.bincount(found[found >= 0], minlength=count), np.bincount(true, minlength=count)]))
        return np.array(rows, dtype=np.float64)
    if gold.ndim == 2:
        return np.concatenate([gold * answers, answers, gold], axis=1).astype(np.float64)
    classes = np.arange(1 + max(gold.max(), answers.max()))
    true, found = gold[:, None] == classes, answers[:, None] == classes
    return np.concatenate([true & found, found, true], axis=1).astype(np.float64)


def _macro_f1(rows: np.ndarray) -> float:
    """Mean of the F1 of the labels that occur, in the gold or in the answers."""
    hits, found, true = rows.sum(axis=0).reshape(3, -1)
    seen = found + true > 0
    return float(np.mean(2 * hits[seen] / (found + true)[seen])) if seen.any() else 0.0


def _matthews(rows: np.ndarray) -> float:
    """Matthews' correlation of any number of classes (Gorodkin 2004), as GLUE reports it for CoLA; 0 where undefined."""
    gold, answers = rows[:, 0].astype(int), rows[:, 1].astype(int)
    lowest = min(gold.min(), answers.min())
    size = int(max(gold.max(), answers.max()) - lowest) + 1
    table = np.bincount((gold - lowest) * size + (answers - lowest), minlength=size * size).reshape(size, size).astype(np.float64)
    true, found, n = table.sum(1), table.sum(0), table.sum()
    spread = np.sqrt((n * n - (true**2).sum()) * (n * n - (found**2).sum()))
    return float((np.trace(table) * n - true @ found) / spread) if spread else 0.0


def _pearson(rows: np.ndarray) -> float:
    """Pearson's correlation; 0 where one side is constant."""
    centred = rows - rows.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0).prod())
    return float(centred.prod(axis=1).sum() / spread) if spread else 0.0


def _spearman(rows: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, ties averaged."""
    from scipy.stats import rankdata

    return _pearson(np.stack([rankdata(rows[:, 0]), rankdata(rows[:, 1])], axis=1))


def _entity_counts(gold: list[np.ndarray], answers: list[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Hits, found and true entities of each sentence, as seqeval finds them (default mode, CoNLL's conlleval)."""
    from seqeval.metrics.sequence_labeling import get_entities  # pyright: ignore[reportMissingTypeStubs]

    def entities(tags: np.ndarray) -> set[Any]:
        return set(get_entities([names[tag] if tag >= 0 else "O" for tag in tags.tolist()]))

    rows = []
    for true, found in zip(gold, answers, strict=True):
        expected, given = entities(true), entities(found)
        rows.append([len(expected & given), len(given), len(expected)])
    return np.array(rows, dtype=np.float64)


def words_of_tags(tags: Sequence[str]) -> set[tuple[int, int]]:
    """Return the words that B/M/E/S tags cut a line into, as (first, last) characters.

    A word ends at E, S, before B or S, and at the line's end, so that any sequence of tags cuts the whole line.
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


def _word_counts(gold: list[np.ndarray], answers: list[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Hits, found and true words of each line, as the SIGHAN bakeoffs score word segmentation."""
    rows = []
    for true, found in zip(gold, answers, strict=True):
        expected = words_of_tags([str(names[tag]) for tag in true.tolist()])
        given = words_of_tags([str(names[tag]) if tag >= 0 else "S" for tag in found.tolist()])
        rows.append([len(expected & given), len(given), len(expected)])
    return np.array(rows, dtype=np.float64)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised_answer(text: str) -> str:
    """Lower-case, without punctuation, articles and needless blanks: SQuAD's own normalisation (Rajpurkar et al. 2016)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _best_of(gold: list[list[tuple[int, str]]], answers: list[str], measure: Callable[[str, str], float]) -> np.ndarray:
    rows = []
    for given, answer in zip(gold, answers, strict=True):
        texts = [text for _, text in given if normalised_answer(text)] or [""]
        rows.append([max(measure(text, answer) for text in texts)])
    return np.array(rows, dtype=np.float64)


def _same_text(true: str, answer: str) -> float:
    return float(normalised_answer(true) == normalised_answer(answer))


def token_f1(true: str, answer: str) -> float:
    """F1 of the words that two answers share, with multiplicity; no answer equals only no answer."""
    expected, given = normalised_answer(true).split(), normalised_answer(answer).split()
    if not expected or not given:
        return float(expected == given)
    shared = sum((Counter(expected) & Counter(given)).values())
    return 2 * shared / (len(expected) + len(given))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_equal, _accuracy, right=True),
    "f1": Metric(_counts_of_class_one, _f1_of_counts),
    "macro_f1": Metric(_class_counts, _macro_f1),
    "micro_f1": Metric(_label_counts, _f1_of_counts),
    "matthews": Metric(_pairs, _matthews),
    "pearson": Metric(_pairs, _pearson),
    "spearman": Metric(_pairs, _spearman),
    "entity_f1": Metric(_entity_counts, _f1_of_counts),
    "word_f1": Metric(_word_counts, _f1_of_counts),
    "exact_match": Metric(lambda gold, answers, _: _best_of(gold, answers, _same_text), _mean, right=True),
    "squad_f1": Metric(lambda gold, answers, _: _best_of(gold, answers, token_f1), _mean),
}


def compute(names: Sequence[str], gold: Any, answers: Any, label_names: Sequence[str] = ()) -> dict[str, float]:
    """Compute the named metrics."""
    return {name: METRICS[name](gold, answers, label_names) for name in names}


def points_lost(before: float, after: float) -> float:
    """Return how many hundredths a score fell, without the rounding error that makes 2 points 2.0000000000000018."""
    return round(100 * (before - after), 9)
