"""From a model's outputs to a task's answers: one reader a target, pure functions over arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.models.label_mapping import NO_CLASS, logit_positions, predicted_classes

N_BEST = 20  # first and last tokens that are combined to spans


def decode_predictions(outputs: np.ndarray, data: Encoded, examples: Examples, input_spec: InputSpec, classes: np.ndarray) -> Any:
    """Return what the model says about every example, in the form of `Examples.labels`.

    Args:
        outputs: (n, logits) of a text, or (tokens of all windows, logits) where every token has its own.
        data: the encoded examples.
        examples: the texts that they were made from.
        input_spec: of the task.
        classes: the task's label of each logit, as `map_labels` returns it.

    Returns:
        By target: class numbers (n,) int64; zeros and ones (n, labels) float32; values (n,) float32; a list of tag
        numbers (words,) int64; a list of texts, empty where there is no answer.
    """
    if input_spec.target == "class":
        return predicted_classes(outputs, classes)
    if input_spec.target == "labels":
        return (outputs[:, logit_positions(classes)] > 0).astype(np.float32)  # sigmoid > 0.5
    if input_spec.target == "value":
        return outputs[:, 0].astype(np.float32)
    if input_spec.target == "tags":
        return word_tags(predicted_classes(outputs, classes), data, examples)
    return [best_answer(spans, input_spec).text for spans in best_spans(outputs, data, examples, input_spec)]


def _windows_of(data: Encoded) -> tuple[list[int], list[np.ndarray]]:
    """Return each window's example and its tokens' places, which tags and spans are encoded with."""
    if data.owners is None or data.places is None:
        raise ValueError("these examples were not encoded for answers about their tokens")
    return data.owners.tolist(), data.places


def word_tags(tags: np.ndarray, data: Encoded, examples: Examples, kind: Any = np.int64) -> list[np.ndarray]:
    """Return the tag (or score) of every word from those of all tokens: of its first piece; -1 for a word without one."""
    owners, places_of = _windows_of(data)
    words = [np.full(len(text), NO_CLASS, dtype=kind) for text in examples.texts]
    for number, (owner, places) in enumerate(zip(owners, places_of, strict=True)):
        of_window = tags[data.starts[number] : data.starts[number + 1]]
        known = places >= 0
        words[owner][places[known]] = of_window[known]
    return words


@dataclass(frozen=True)
class Span:
    """An answer: its text, where it stands in the context, and its score (a sum of two logits). No text: no answer."""

    text: str
    score: float
    start: int
    end: int


def best_spans(outputs: np.ndarray, data: Encoded, examples: Examples, input_spec: InputSpec, count: int = N_BEST) -> list[list[Span]]:
    """Return the best spans of every example over all its windows, best first (Devlin et al. 2019, section 4.2).

    A span's score is the logit of its first token plus that of its last one. Where the task knows questions without
    an answer, the last entry is the empty span: the lowest score of the first token over the windows.
    """
    owners, places_of = _windows_of(data)
    found: list[list[Span]] = [[] for _ in examples.texts]
    nothing = np.full(len(examples), np.inf)
    for number, (owner, places) in enumerate(zip(owners, places_of, strict=True)):
        first, last = outputs[data.starts[number] : data.starts[number + 1]].T
        nothing[owner] = min(nothing[owner], first[0] + last[0])
        tokens = np.flatnonzero(places[:, 0] >= 0)
        if not len(tokens):
            continue
        starts = tokens[np.argsort(-first[tokens], kind="stable")[:count]]
        ends = tokens[np.argsort(-last[tokens], kind="stable")[:count]]
        lengths = ends[None, :] - starts[:, None]
        allowed = (lengths >= 0) & (lengths < input_spec.max_answer)
        scores = np.where(allowed, first[starts][:, None] + last[ends][None, :], -np.inf)
        for flat in np.argsort(-scores, axis=None, kind="stable")[:count]:
            row, column = np.unravel_index(flat, scores.shape)
            if not np.isfinite(scores[row, column]):
                break
            begin, end = int(places[starts[row], 0]), int(places[ends[column], 1])
            found[owner].append(Span(examples.texts[owner][1][begin:end], float(scores[row, column]), begin, end))
    for spans, score in zip(found, nothing.tolist(), strict=True):
        spans.sort(key=lambda span: -span.score)
        del spans[count:]
        if input_spec.no_answer or not spans:
            spans.append(Span("", score, 0, 0))
    return found


def best_answer(spans: list[Span], input_spec: InputSpec) -> Span:
    """Return the best span, or the empty one where its score leads by more than the task's `null_threshold`."""
    empty = spans[-1]
    if input_spec.no_answer and len(spans) > 1 and not empty.text and empty.score - spans[0].score > input_spec.null_threshold:
        return empty
    return spans[0]


@dataclass(frozen=True)
class Prediction:
    """A label of a text, and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Value:
    """The value of a text, as a regression gives it."""

    value: float


@dataclass(frozen=True)
class TaggedWord:
    """A word, its tag, and the tag's probability."""

    word: str
    label: str
    score: float


Answer = Prediction | Value | Span | list[Prediction] | list[TaggedWord]


def describe_outputs(outputs: np.ndarray, data: Encoded, examples: Examples, input_spec: InputSpec, labels: list[str]) -> list[Answer]:
    """Return what to tell a reader of each example: a label, the labels beyond a half, a value, tagged words, a span.

    Probabilities are softmax (of a span: over the best spans; of several labels: sigmoid).
    """
    if input_spec.target == "value":
        return [Value(float(row[0])) for row in outputs]
    if input_spec.target == "labels":
        shares = 1 / (1 + np.exp(-outputs))
        order = np.argsort(-shares, axis=1)
        return [[Prediction(labels[i], float(row[i])) for i in best if row[i] > 0.5] for row, best in zip(shares, order, strict=True)]
    if input_spec.target == "class":
        return [Prediction(labels[row.argmax()], float(row.max())) for row in softmax(outputs)]
    if input_spec.target == "tags":
        shares = softmax(outputs)
        tags = word_tags(shares.argmax(axis=1), data, examples)
        scores = word_tags(shares.max(axis=1), data, examples, np.float64)
        return [
            [
                TaggedWord(word, labels[number] if number >= 0 else "", max(0.0, chance))  # a word that the tokenizer drops has no tag
                for word, number, chance in zip(words, numbers.tolist(), chances.tolist(), strict=True)
            ]
            for words, numbers, chances in zip(examples.texts, tags, scores, strict=True)
        ]
    found = []
    for spans in best_spans(outputs, data, examples, input_spec):
        best = best_answer(spans, input_spec)
        shares = softmax(np.array([[span.score for span in spans]]))[0]
        found.append(Span(best.text, float(shares[spans.index(best)]), best.start, best.end))
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of (n, classes) logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
