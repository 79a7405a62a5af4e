"""Examples: the texts of a split with their labels, before tokenization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Examples:
    """Texts and what the task asks of them.

    `texts` holds one or two texts an example; the words of a sentence (tags); question and context (span). `labels`
    holds, by the task's target: class numbers (n,) int64; zeros and ones (n, labels) float32; values (n,) float32; a
    list of tag numbers (words,) int64; a list of answers [(first character, text), …].
    """

    texts: list[tuple[str, ...]]
    labels: Any

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples at `positions`, in that order."""
        where = np.asarray(positions, dtype=int)
        labels = [self.labels[i] for i in where] if isinstance(self.labels, list) else self.labels[where]
        return Examples([self.texts[i] for i in where], labels)


def overlap(first: Examples, second: Examples) -> int:
    """Count the examples of `second` whose texts stand in `first` too."""
    known = set(first.texts)
    return sum(texts in known for texts in second.texts)
