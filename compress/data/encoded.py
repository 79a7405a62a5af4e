"""Tokenized examples: unpadded token ids, cut into padded batches on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compress.data.token_store import TokenRows

IGNORED = -100  # label of positions without a tag: special tokens, later tokens of a word, words of an earlier window


@dataclass(frozen=True)
class Encoded:
    """Token ids of every window, unpadded, with the labels that a loss needs and the positions that decoding needs.

    A window is one input of the model: a whole example for most tasks, a part of one if an example is longer than the
    model's input and every token counts (tags, spans).
    """

    input_ids: Sequence[np.ndarray]  # each (length,) int64
    token_type_ids: Sequence[np.ndarray]  # each (length,) int64
    labels: Any  # by target: (n,) int64; (n, labels) float32; (n,) float32; list of (length,) int64; (n, 2) int64
    pad_id: int
    owners: np.ndarray | None = None  # (n,) the example of each window; None: window i is example i
    places: list[np.ndarray] | None = (
        None  # tags: (length,) word of each token or -1; span: (length, 2) characters; mentions: (length,) name
    )

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each window, (n,) int64."""
        if isinstance(self.input_ids, TokenRows):
            return self.input_ids.lengths
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)

    @cached_property
    def starts(self) -> np.ndarray:
        """The position of each window's first token if all windows are concatenated, (n + 1,) int64."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def take(self, positions: Sequence[int] | np.ndarray) -> Encoded:
        """Return the windows at `positions`, without owners: for looking at a model's activations, not for decoding."""
        where = [int(i) for i in positions]
        labels = [self.labels[i] for i in where] if isinstance(self.labels, list) else self.labels[where]
        return Encoded([self.input_ids[i] for i in where], [self.token_type_ids[i] for i in where], labels, self.pad_id)

    def batch(self, positions: Sequence[int] | np.ndarray, pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Return `input_ids`, `attention_mask`, `token_type_ids`, each (batch, length) int64, right-padded."""
        if len(positions) == 1 and pad_to is None:  # the batch of a server: nothing to pad
            ids, types = (np.array(rows[positions[0]], dtype=np.int64, ndmin=2) for rows in (self.input_ids, self.token_type_ids))
            return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
        rows, types = ([stored[i] for i in positions] for stored in (self.input_ids, self.token_type_ids))
        lengths = np.array([len(ids) for ids in rows], dtype=np.int64)
        real = np.arange(pad_to or lengths.max()) < lengths[:, None]  # (batch, length)
        batch = {
            "input_ids": np.full(real.shape, self.pad_id, dtype=np.int64),
            "attention_mask": real.astype(np.int64),
            "token_type_ids": np.zeros(real.shape, dtype=np.int64),
        }
        batch["input_ids"][real], batch["token_type_ids"][real] = np.concatenate(rows), np.concatenate(types)
        return batch

    def targets(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the labels of a batch: tags are padded with `IGNORED` to (batch, length), all others are returned as stored."""
        if not isinstance(self.labels, list):
            return self.labels[np.asarray(positions, dtype=int)]
        width = max(len(self.input_ids[i]) for i in positions)
        padded = np.full((len(positions), width), IGNORED, dtype=np.int64)
        for row, i in enumerate(positions):
            padded[row, : len(self.labels[i])] = self.labels[i]
        return padded

    def items(self, positions: Sequence[int] | np.ndarray) -> int:
        """Return the number of terms that the loss of a batch is a mean of: tagged tokens for tags, else examples."""
        return int((self.targets(positions) != IGNORED).sum()) if isinstance(self.labels, list) else len(positions)
