"""Tokenized examples: unpadded token ids, cut into padded batches on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

IGNORED = -100  # label of positions without a tag: special tokens, later tokens of a word, words of an earlier window


@dataclass(frozen=True)
class Encoded:
    """Token ids of every window, unpadded, with what a batch and a reader of its outputs need to know."""

    input_ids: list[np.ndarray]  # each (length,) int64
    token_type_ids: list[np.ndarray]
    labels: Any  # by target: (n,) int64; (n, labels) float32; (n,) float32; list of (length,) int64; (n, 2) int64
    pad_id: int
    owners: np.ndarray | None = None  # (n,) the example that each window is of, where they are not one to one
    places: list[np.ndarray] | None = None  # tags: (length,) word of each token or -1; span: (length, 2) characters or -1

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each window, (n,)."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)

    @cached_property
    def starts(self) -> np.ndarray:
        """Where the tokens of each window start among all tokens in a row, (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def take(self, positions: Sequence[int] | np.ndarray) -> Encoded:
        """Return the windows at `positions`, without owners: for looking at values inside a model, not for reading answers."""
        where = [int(i) for i in positions]
        labels = [self.labels[i] for i in where] if isinstance(self.labels, list) else self.labels[where]
        return Encoded([self.input_ids[i] for i in where], [self.token_type_ids[i] for i in where], labels, self.pad_id)

    def batch(self, positions: Sequence[int] | np.ndarray, pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Return `input_ids`, `attention_mask`, `token_type_ids`, each (batch, length) int64, right-padded."""
        longest = max(len(self.input_ids[i]) for i in positions)
        width = pad_to or longest
        shape = (len(positions), width)
        batch = {
            "input_ids": np.full(shape, self.pad_id, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            "token_type_ids": np.zeros(shape, dtype=np.int64),
        }
        for row, i in enumerate(positions):
            ids = self.input_ids[i]
            batch["input_ids"][row, : len(ids)] = ids
            batch["attention_mask"][row, : len(ids)] = 1
            batch["token_type_ids"][row, : len(ids)] = self.token_type_ids[i]
        return batch

    def targets(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the labels of a batch: tags padded with `IGNORED` to (batch, length), all else as it stands."""
        if not isinstance(self.labels, list):
            return self.labels[np.asarray(positions, dtype=int)]
        width = max(len(self.input_ids[i]) for i in positions)
        padded = np.full((len(positions), width), IGNORED, dtype=np.int64)
        for row, i in enumerate(positions):
            padded[row, : len(self.labels[i])] = self.labels[i]
        return padded

    def items(self, positions: Sequence[int] | np.ndarray) -> int:
        """Return how many things are asked for in a batch, of which its loss is a mean: tags, or else examples."""
        return int((self.targets(positions) != IGNORED).sum()) if isinstance(self.labels, list) else len(positions)
