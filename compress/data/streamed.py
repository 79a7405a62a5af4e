"""Texts of a data set that is larger than memory: read again from their source each time they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np

VIEWED = 10_000  # texts; fewer are read into memory when they are taken
Texts = tuple[str, ...]  # one or two texts of an example, or the tokens of a sentence


class StreamedTexts(Sequence[Texts]):
    """A sequence of texts that holds none of them: iteration streams, indexing reads up to the index.

    Args:
        read: yields the texts of all rows, in order.
        positions: the rows that belong to the sequence, ascending and each once, int64.
    """

    def __init__(self, read: Callable[[], Iterator[Texts]], positions: np.ndarray) -> None:
        self._read, self._positions = read, positions

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Texts]:
        rows = enumerate(self._read())
        for position in self._positions.tolist():
            yield next(text for row, text in rows if row == position)

    @overload
    def __getitem__(self, index: int) -> Texts: ...
    @overload
    def __getitem__(self, index: slice) -> list[Texts]: ...
    def __getitem__(self, index: int | slice) -> Texts | list[Texts]:
        if isinstance(index, slice):
            return list(self.take(np.arange(len(self))[index]))
        return self.take(np.array([range(len(self))[index]]))[0]

    def take(self, positions: np.ndarray) -> Sequence[Texts]:
        """Return the texts at `positions`: a list, or a view if they are many and ascend."""
        rows = self._positions[positions]
        if len(rows) > VIEWED and (np.diff(rows) > 0).all():
            return StreamedTexts(self._read, rows)
        distinct = np.unique(rows)
        texts = dict(zip(distinct.tolist(), StreamedTexts(self._read, distinct), strict=True))
        return [texts[row] for row in rows.tolist()]
