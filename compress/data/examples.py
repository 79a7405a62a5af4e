"""Examples: the texts of a split with their labels, before tokenization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.data.answers import Answer
from compress.data.streamed import StreamedTexts, Texts

Labels = np.ndarray | list[np.ndarray] | list[list[Answer]]
"""See `Examples.labels`."""
Predictions = np.ndarray | list[np.ndarray] | list[str]
"""Predictions of examples: as their labels, but one text for a list of answers, and (n,) numbers of antecedents for mention pairs."""


@dataclass(frozen=True)
class Examples:
    """Texts with their labels.

    `texts` holds, for each example, one or two texts; the tokens of a sentence (target `tags`); question and context
    (`span`). `labels` holds, by the task's target: class numbers, (n,) int64; zeros and ones, (n, labels) float32; values,
    (n,) float32; a list of tag numbers, each (tokens,) int64; a list of answers, each [(first character, text), …]; of `mentions`, whose
    text is marked, (n, 8) int64: first character and end of pronoun, A and B, number of the antecedent in `CHOICES`, gender.
    """

    texts: Sequence[Texts]
    labels: Any

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples at `positions`, in that order."""
        where = np.asarray(positions, dtype=int)
        labels = [self.labels[i] for i in where] if isinstance(self.labels, list) else self.labels[where]
        texts = self.texts.take(where) if isinstance(self.texts, StreamedTexts) else [self.texts[i] for i in where]
        return Examples(texts, labels)

    def sample(self, count: int | None, seed: int) -> Examples:
        """Return `count` examples drawn at random without replacement, in their order; all of them if there are no more, or with None."""
        if count is None or count >= len(self):
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))


def overlap(first: Examples, second: Examples) -> int:
    """Count the examples of `second` whose texts also occur in `first`."""
    candidates = set(second.texts)
    shared = {texts for texts in first.texts if texts in candidates}
    return sum(texts in shared for texts in second.texts)
