"""Tokenized lists of inputs that belong together: the two texts of a pair, or the candidates of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compress.data.encoded import Encoded


@dataclass(frozen=True)
class EncodedLists(Encoded):
    """Lists of `size` inputs each: list i has the inputs from `i * size` on. Its labels are one row per list."""

    size: int = 1

    def __len__(self) -> int:
        return len(self.input_ids) // self.size

    @cached_property
    def lengths(self) -> np.ndarray:
        """The number of tokens of the longest input of each list, (lists,) int64."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64).reshape(-1, self.size).max(axis=1)

    def take(self, positions: Sequence[int] | np.ndarray) -> EncodedLists:
        """Return the lists at `positions`."""
        lists = np.asarray(positions, dtype=int)
        rows = (lists[:, None] * self.size + np.arange(self.size)).ravel().tolist()
        ids, types = ([each[row] for row in rows] for each in (self.input_ids, self.token_type_ids))
        return EncodedLists(ids, types, self.labels[lists], self.pad_id, size=self.size)

    def batch(self, positions: Sequence[int] | np.ndarray, pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Return the inputs of the lists at `positions`, (lists * size, length) each, those of a list next to each other."""
        rows = np.asarray(positions, dtype=int)[:, None] * self.size + np.arange(self.size)
        return super().batch(rows.ravel(), pad_to)


def group_inputs(encoded: Encoded, rows: np.ndarray, labels: np.ndarray) -> EncodedLists:
    """Return lists of inputs.

    Args:
        encoded: the inputs.
        rows: the inputs of each list, (lists, size); an input may be in several.
        labels: one row per list.
    """
    flat: list[int] = rows.ravel().tolist()
    return EncodedLists(
        [encoded.input_ids[row] for row in flat], [encoded.token_type_ids[row] for row in flat], labels, encoded.pad_id, size=rows.shape[1]
    )


def group_in_lists(encoded: Encoded, size: int) -> Encoded:
    """Return inputs as lists of `size` that are next to each other, labels as one row per list; unchanged for lists of one."""
    if size == 1:
        return encoded
    labels = np.asarray(encoded.labels).reshape(-1, size)
    return EncodedLists(encoded.input_ids, encoded.token_type_ids, labels, encoded.pad_id, size=size)
