"""Values that the documents of several verbs share."""

from __future__ import annotations

from typing import NotRequired, TypedDict

Interval = list[float]  # lower and upper end of a 95 % interval
Metrics = dict[str, float]  # metric by name: shares from 0 to 1, matthews and correlations from -1 to 1; `n` counts examples


class LayerDocument(TypedDict):
    """The size of one encoder layer."""

    heads: int
    """Attention heads."""
    ffn: int
    """Neurons of the feed-forward network."""
    ranks: NotRequired[dict[str, int]]
    """Ranks of the factorized linear layers by role; other roles are dense."""
    tokens: NotRequired[float]
    """Share of a text's tokens that this layer's FFN and the layers after it still compute; 1 without it."""


class Ratio(TypedDict):
    """A ratio of latencies, above 1 if the second model is faster."""

    ratio: float
    """Median of the ratios of the rounds."""
    ci95: Interval
    """Its 95 % interval."""


class Speedup(Ratio):
    """A ratio of latencies over a named baseline."""

    vs: str
    """The baseline."""


class InputSpecDocument(TypedDict):
    """How inputs are encoded and outputs are decoded."""

    target: str
    """What is predicted: `class`, `labels`, `value`, `tags`, `span`, `vector` or `mentions`."""
    max_length: int
    """Tokens of an input, at most."""
    stride: int
    """Tokens that two windows of a long context share."""
    max_answer: int
    """Tokens of an extracted answer, at most."""
    no_answer: bool
    """Whether a question may have no answer."""
    null_threshold: float
    """How much the logits of "no answer" must exceed those of the best span."""
