"""Compare every metric with its reference over random label and prediction sets: scikit-learn, seqeval, scipy, SQuAD's script.

    python eval/oracles.py [--sets 1000] [--seed 0]

Sets have absent classes, predictions of classes that the labels lack, ties, constants and empty rows. SQuAD's measures are written
down from their definition (Rajpurkar et al. 2016, 2018). A correlation or F1 that is undefined is 0 here.
"""

from __future__ import annotations

import argparse
import re
import string
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats
import seqeval.metrics
import sklearn.metrics

from compress.data import mentions
from compress.data.metrics import METRICS

TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-MISC", "I-MISC"]
WORDS = ["the", "a", "an", "Dog", "dog", "cat,", "cat", "1871", "U.S.", "", "  ", "?", "and"]
TOLERANCE = 1e-9
Case = tuple[Any, Any]
Draw = Callable[[np.random.Generator], Case]
Reference = Callable[[Any, Any], float]


def classes(rng: np.random.Generator) -> Case:
    """Class numbers, of which labels and predictions may lack some."""
    n, count = rng.integers(1, 60), rng.integers(2, 7)
    labels, predictions = (rng.choice(rng.permutation(count)[: rng.integers(1, count + 1)], n) for _ in range(2))
    return labels, np.where(rng.random(n) < 0.5, labels, predictions)


def binary(rng: np.random.Generator) -> Case:
    """Two classes."""
    labels, predictions = classes(rng)
    return labels % 2, predictions % 2


def label_sets(rng: np.random.Generator) -> Case:
    """Zeros and ones; the model may know labels that the task lacks."""
    n, count, more = rng.integers(1, 40), rng.integers(2, 6), rng.integers(0, 3)
    rates = rng.random(count + more) * (rng.random(count + more) < 0.7)
    labels, predictions = ((rng.random((n, count + more)) < rates).astype(np.float32) for _ in range(2))
    return labels[:, :count], predictions


def tags(rng: np.random.Generator) -> Case:
    """Tags of sentences, in any order, of all or of some kinds; some sentences are of one token."""
    lengths = rng.integers(1, 12, rng.integers(1, 15))
    labels = [rng.integers(0, rng.integers(1, len(TAGS) + 1), length) for length in lengths]
    return labels, [np.where(rng.random(len(row)) < 0.6, row, rng.integers(0, len(TAGS), len(row))) for row in labels]


def values(rng: np.random.Generator) -> Case:
    """Values with ties, at times constant."""
    n = rng.integers(3, 60)
    labels, noise = rng.integers(0, rng.integers(1, 30), n) / 4, rng.integers(0, 6, n) / 2
    return labels.astype(np.float32), (labels + noise if rng.random() < 0.9 else np.ones(n)).astype(np.float32)


def answers(rng: np.random.Generator) -> Case:
    """Several answers of each question, or none, and a text."""

    def text() -> str:
        return " ".join(rng.choice(WORDS, rng.integers(0, 5)))

    n = rng.integers(1, 20)
    return [[(0, text()) for _ in range(rng.integers(0, 4))] for _ in range(n)], [text() for _ in range(n)]


def mention_pairs(rng: np.random.Generator) -> Case:
    """Antecedents (A, B or neither) with the gender of the pronoun, and those of a model, some of them right."""
    n = rng.integers(1, 60)
    labels = np.zeros((n, mentions.WIDTH), dtype=np.int64)
    labels[:, mentions.CHOICE], labels[:, mentions.GENDER] = rng.integers(0, 3, n), rng.integers(0, 3, n)
    return labels, np.where(rng.random(n) < 0.5, labels[:, mentions.CHOICE], rng.integers(0, 3, n))


def of_names(score: Reference, *genders: int) -> Reference:
    """Apply a measure to the decisions on both names of every row, or only of those whose pronoun has one of these genders."""

    def measure(labels: Any, predictions: Any) -> float:
        rows = np.isin(labels[:, mentions.GENDER], genders or range(3))
        sides = (side[rows, None] == np.arange(2) for side in (labels[:, mentions.CHOICE], predictions))
        actual, given = (side.flatten() for side in sides)
        return score(actual, given) if len(actual) else 0.0

    return measure


def ratio(first: Reference, second: Reference) -> Reference:
    """Divide one measure by another; 0 if that is 0."""
    return lambda labels, predictions: first(labels, predictions) / (second(labels, predictions) or np.inf)


def squad_words(text: str) -> list[str]:
    """Lower case, no punctuation, no articles, split at blanks."""
    kept = "".join(mark for mark in text.lower() if mark not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def squad(measure: Callable[[list[str], list[str]], float]) -> Reference:
    """The mean over questions of the best measure over a question's answers; answers without words are no answers."""

    def score(labels: Any, predictions: Any) -> float:
        best = []
        for row, text in zip(labels, predictions, strict=True):
            golds = [words for _, answer in row if (words := squad_words(answer))] or [[]]
            best.append(max(measure(gold, squad_words(text)) for gold in golds))
        return float(np.mean(best))

    return score


def word_f1(gold: list[str], found: list[str]) -> float:
    """F1 of the words that two answers share; two empty answers are equal."""
    if not gold or not found:
        return float(gold == found)
    shared = sum((Counter(gold) & Counter(found)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def of_tags(score: Callable[[Any, Any], float]) -> Reference:
    """Apply a measure to the names of tags, sentence by sentence."""
    return lambda labels, predictions: float(score(*([[TAGS[tag] for tag in row] for row in side] for side in (labels, predictions))))


def of_tokens(score: Reference) -> Reference:
    """Apply a measure to all tokens."""
    return lambda labels, predictions: score(np.concatenate(labels), np.concatenate(predictions))


def of_sets(score: Reference) -> Reference:
    """Apply a measure to all labels that the model knows."""
    return lambda labels, predictions: score(np.pad(labels, ((0, 0), (0, predictions.shape[1] - labels.shape[1]))), predictions)


def sklearn_f1(**settings: Any) -> Reference:
    """scikit-learn's F1."""
    return lambda labels, predictions: float(sklearn.metrics.f1_score(labels, predictions, zero_division=0, **settings))


def correlation(function: Callable[..., Any]) -> Reference:
    """Scipy's correlation in double precision, 0 if it is undefined."""
    return lambda labels, predictions: float(np.nan_to_num(function(labels.astype(float), predictions.astype(float))[0]))


CHECKS: list[tuple[str, str, str, Draw, Reference]] = [
    ("accuracy", "classes", "scikit-learn", classes, sklearn.metrics.accuracy_score),
    ("accuracy", "label sets", "scikit-learn", label_sets, of_sets(sklearn.metrics.accuracy_score)),
    ("accuracy", "tags", "seqeval", tags, of_tags(seqeval.metrics.accuracy_score)),
    ("f1", "two classes", "scikit-learn", binary, sklearn_f1()),
    ("macro_f1", "classes", "scikit-learn", classes, sklearn_f1(average="macro")),
    ("macro_f1", "label sets", "scikit-learn", label_sets, of_sets(sklearn_f1(average="macro"))),
    ("macro_f1", "tags", "scikit-learn", tags, of_tokens(sklearn_f1(average="macro"))),
    ("micro_f1", "label sets", "scikit-learn", label_sets, of_sets(sklearn_f1(average="micro"))),
    ("matthews", "classes", "scikit-learn", classes, sklearn.metrics.matthews_corrcoef),
    ("entity_f1", "tags", "seqeval", tags, of_tags(seqeval.metrics.f1_score)),
    ("squad_f1", "answers", "SQuAD's script", answers, squad(word_f1)),
    ("exact_match", "answers", "SQuAD's script", answers, squad(lambda gold, found: float(gold == found))),
    ("pearson", "values", "scipy", values, correlation(scipy.stats.pearsonr)),
    ("spearman", "values", "scipy", values, correlation(scipy.stats.spearmanr)),
    ("gap_f1", "mention pairs", "scikit-learn", mention_pairs, of_names(sklearn_f1())),
    ("gap_f1_masculine", "mention pairs", "scikit-learn", mention_pairs, of_names(sklearn_f1(), mentions.MASCULINE)),
    ("gap_f1_feminine", "mention pairs", "scikit-learn", mention_pairs, of_names(sklearn_f1(), mentions.FEMININE)),
    (
        "gap_bias",
        "mention pairs",
        "scikit-learn",
        mention_pairs,
        ratio(of_names(sklearn_f1(), mentions.FEMININE), of_names(sklearn_f1(), mentions.MASCULINE)),
    ),
]


def largest_difference(metric: str, draw: Draw, reference: Reference, sets: int, seed: int) -> float:
    """Return the largest difference of a metric from its reference over random sets."""
    rng, largest = np.random.default_rng(seed), 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(sets):
            labels, predictions = draw(rng)
            largest = max(largest, abs(METRICS[metric](labels, predictions, TAGS) - reference(labels, predictions)))
    return largest


def main() -> int:
    """Print the table; return 1 if a metric differs from its reference by more than the tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{'metric':12} {'on':12} {'reference':15} {'sets':>5}  largest difference")
    worst = 0.0
    for metric, on, name, draw, reference in CHECKS:
        difference = largest_difference(metric, draw, reference, given.sets, given.seed)
        worst = max(worst, difference)
        print(f"{metric:12} {on:12} {name:15} {given.sets:5}  {difference:.1e}{'' if difference <= TOLERANCE else '  DIFFERS'}", flush=True)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    raise SystemExit(main())
