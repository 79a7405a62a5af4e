"""Decode logits: into a task's labels, to compute metrics, or into objects for a reader. Pure functions over arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.mentions import CHOICES, antecedent_name, mention_scores
from compress.data.sentence_texts import decode_vectors
from compress.models.label_mapping import NO_CLASS, logit_positions, predicted_classes

N_BEST = 20  # first and last tokens that are combined into spans


@dataclass(frozen=True)
class Prediction:
    """A label of a text, and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Value:
    """The predicted value of a text (regression)."""

    value: float


@dataclass(frozen=True)
class TaggedWord:
    """A word, its tag, and the tag's probability."""

    word: str
    label: str
    score: float


@dataclass(frozen=True)
class Span:
    """A part of the context that answers a question: text, score, first character and end. Without text: there is no answer.

    The score is the sum of two logits, or a probability among the best spans in `describe_outputs`.
    """

    text: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class Vector:
    """The vector of a text, (size,) float32."""

    vector: np.ndarray


@dataclass(frozen=True)
class Antecedent:
    """What a pronoun means: `A`, `B` or `neither`, its probability, the name (empty for neither), and all three probabilities."""

    label: str
    score: float
    name: str
    scores: dict[str, float]


Output = Prediction | Value | Span | Vector | Antecedent | list[Prediction] | list[TaggedWord]


def decode_predictions(outputs: np.ndarray, data: Encoded, examples: Examples, input_spec: InputSpec, classes: np.ndarray) -> Any:
    """Return the prediction for every example, in the form of `Examples.labels`.

    Args:
        outputs: (n, logits) per text, or (tokens of all windows, logits) per token.
        data: the encoded examples.
        examples: their texts.
        input_spec: of the task.
        classes: the task's class of each logit, as `map_labels` returns it.

    Returns:
        By target: class numbers (n,) int64; zeros and ones (n, labels) float32, those that only models know included; values (n,)
        float32; a list of tag numbers (words,) int64; a list of texts, empty if there is no answer; vectors (n, size) float32 of texts
        alone, or cosines (n,) of pairs; numbers of antecedents (n,) int64.
    """
    if input_spec.target == "vector":
        return decode_vectors(outputs, examples)
    if input_spec.target == "class":
        return predicted_classes(outputs, classes)
    if input_spec.target == "labels":
        positions = logit_positions(classes)
        return ((outputs[:, positions] > 0) & (positions != NO_CLASS)).astype(np.float32)  # sigmoid > 0.5
    if input_spec.target == "value":
        return values(outputs, input_spec).astype(np.float32)
    if input_spec.target == "tags":
        return word_values(predicted_classes(outputs, classes), data, examples)
    if input_spec.target == "mentions":
        return mention_scores(outputs, data).argmax(axis=1)
    return [best_answer(spans, input_spec).text for spans in best_spans(outputs, data, examples, input_spec)]


def values(outputs: np.ndarray, input_spec: InputSpec) -> np.ndarray:
    """Return the values that a model predicts from its logits: (n, 1) -> (n,)."""
    logits = outputs[:, 0]
    return sigmoid(logits) if input_spec.activation == "sigmoid" else logits


def _windows(data: Encoded) -> tuple[list[int], list[np.ndarray]]:
    """Return each window's example and its tokens' places (word numbers, or first and last characters)."""
    if data.owners is None or data.places is None:
        raise ValueError("these examples were not encoded for predictions about their tokens")
    return data.owners.tolist(), data.places


def word_values(values: np.ndarray, data: Encoded, examples: Examples, dtype: type = np.int64) -> list[np.ndarray]:
    """Return the value (a tag or a score) of every word: that of its first token; -1 for a word without tokens.

    Args:
        values: (tokens of all windows,).
        data: the encoded examples.
        examples: their words.
        dtype: of the result.
    """
    owners, places_of = _windows(data)
    words = [np.full(len(text), NO_CLASS, dtype=dtype) for text in examples.texts]
    for number, (owner, places) in enumerate(zip(owners, places_of, strict=True)):
        of_window = values[data.starts[number] : data.starts[number + 1]]
        first = places >= 0  # tokens that begin a word
        words[owner][places[first]] = of_window[first]
    return words


def best_spans(outputs: np.ndarray, data: Encoded, examples: Examples, input_spec: InputSpec, count: int = N_BEST) -> list[list[Span]]:
    """Return the best spans of every example over all its windows, best first (Devlin et al. 2019, section 4.2).

    A span's score is the logit of its first token plus that of its last one. If the task has questions without
    an answer, the last entry is the empty span, with the lowest score of the first token over the windows.
    """
    owners, places_of = _windows(data)
    candidates: list[list[Span]] = [[] for _ in examples.texts]
    empty_scores = np.full(len(examples), np.inf)
    for number, (owner, places) in enumerate(zip(owners, places_of, strict=True)):
        first, last = outputs[data.starts[number] : data.starts[number + 1]].T
        empty_scores[owner] = min(empty_scores[owner], first[0] + last[0])
        candidates[owner] += _window_spans(first, last, places, examples.texts[owner][1], input_spec.max_answer, count)
    for spans, empty_score in zip(candidates, empty_scores.tolist(), strict=True):
        spans.sort(key=lambda span: -span.score)
        del spans[count:]
        if input_spec.no_answer or not spans:
            spans.append(Span("", empty_score, 0, 0))
    return candidates


def _window_spans(first: np.ndarray, last: np.ndarray, places: np.ndarray, context: str, longest: int, count: int) -> list[Span]:
    """Return the best spans of one window, best first.

    Args:
        first: logits of the first token, (length,).
        last: logits of the last token, (length,).
        places: first and last characters of each token, (length, 2); -1 outside of the context.
        context: the text.
        longest: most tokens of a span.
        count: the most spans to return, and tokens to combine at each end.
    """
    tokens = np.flatnonzero(places[:, 0] >= 0)
    if not len(tokens):
        return []
    starts = tokens[np.argsort(-first[tokens], kind="stable")[:count]]
    ends = tokens[np.argsort(-last[tokens], kind="stable")[:count]]
    lengths = ends[None, :] - starts[:, None]
    allowed = (lengths >= 0) & (lengths < longest)
    scores = np.where(allowed, first[starts][:, None] + last[ends][None, :], -np.inf)
    spans = []
    for flat in np.argsort(-scores, axis=None, kind="stable")[:count]:
        row, column = np.unravel_index(flat, scores.shape)
        if not np.isfinite(scores[row, column]):
            break
        begin, end = int(places[starts[row], 0]), int(places[ends[column], 1])
        spans.append(Span(context[begin:end], float(scores[row, column]), begin, end))
    return spans


def best_answer(spans: list[Span], input_spec: InputSpec) -> Span:
    """Return the best span, or the empty one if its score is higher by more than the task's `null_threshold`."""
    empty = spans[-1]
    if input_spec.no_answer and len(spans) > 1 and not empty.text and empty.score - spans[0].score > input_spec.null_threshold:
        return empty
    return spans[0]


def describe_outputs(outputs: np.ndarray, data: Encoded, examples: Examples, input_spec: InputSpec, labels: list[str]) -> list[Output]:
    """Return the prediction for each example as an object.

    It is a label, all labels above 0.5, a value, tagged words, a span, a vector, or an antecedent. Of a pair of texts, an
    embedder's prediction is the cosine of their vectors, as a value.

    Probabilities are softmax (of a span: over the best spans), or sigmoid if there may be several labels.

    Args:
        outputs: as for `decode_predictions`.
        data: the encoded examples.
        examples: their texts.
        input_spec: of the model.
        labels: names of its logits.
    """
    if input_spec.target == "vector":
        decoded = decode_vectors(outputs, examples)
        return [Vector(row) for row in decoded] if decoded.ndim == 2 else [Value(float(cosine)) for cosine in decoded]
    if input_spec.target == "value":
        return [Value(float(value)) for value in values(outputs, input_spec)]
    if input_spec.target == "labels":
        scores = sigmoid(outputs)
        order = np.argsort(-scores, axis=1)
        return [[Prediction(labels[i], float(row[i])) for i in best if row[i] > 0.5] for row, best in zip(scores, order, strict=True)]
    if input_spec.target == "class":
        if len(outputs) == 1:
            return [_best_class(outputs[0].tolist(), labels)]
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))  # 1 for the predicted class
        best = zip(powers.argmax(axis=1).tolist(), (1 / powers.sum(axis=1)).tolist(), strict=True)
        return [Prediction(labels[number], score) for number, score in best]
    if input_spec.target == "tags":
        return _tagged_words(softmax(outputs), data, examples, labels)
    if input_spec.target == "mentions":
        return _antecedents(softmax(mention_scores(outputs, data)), examples)
    spans = []
    for candidates in best_spans(outputs, data, examples, input_spec):
        best = best_answer(candidates, input_spec)
        scores = softmax(np.array([[span.score for span in candidates]]))[0]
        spans.append(Span(best.text, float(scores[candidates.index(best)]), best.start, best.end))
    return spans


def _best_class(logits: list[float], labels: list[str]) -> Prediction:
    """Return the class of one text. NumPy's functions, no longer in the caches after an inference, would take 90 us of 2 ms."""
    largest = max(logits)
    return Prediction(labels[logits.index(largest)], 1 / sum(math.exp(logit - largest) for logit in logits))


def _tagged_words(probabilities: np.ndarray, data: Encoded, examples: Examples, labels: list[str]) -> list[Output]:
    """Return the tagged words of each text; a word that the tokenizer drops has no tag and score 0."""
    tags = word_values(probabilities.argmax(axis=1), data, examples)
    scores = word_values(probabilities.max(axis=1), data, examples, np.float64)
    return [
        [
            TaggedWord(word, labels[tag] if tag >= 0 else "", max(0.0, score))
            for word, tag, score in zip(words, word_tags.tolist(), word_scores.tolist(), strict=True)
        ]
        for words, word_tags, word_scores in zip(examples.texts, tags, scores, strict=True)
    ]


def _antecedents(probabilities: np.ndarray, examples: Examples) -> list[Output]:
    """Return what the pronoun of each example means, by the probabilities of A, B and neither, (n, 3)."""
    return [
        Antecedent(CHOICES[best], float(row[best]), antecedent_name(text, label, best), dict(zip(CHOICES, row.tolist(), strict=True)))
        for (text,), label, row, best in zip(examples.texts, examples.labels, probabilities, probabilities.argmax(1).tolist(), strict=True)
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of exclusive classes, (n, classes)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of independent labels, (n, labels)."""
    return 1 / (1 + np.exp(-logits))
