"""Labels that are written as vectors of zeros and ones, one place per class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.core import console
from compress.core.errors import DataError
from compress.data.cells import as_lists, is_nested


def vectors_of(cells: Sequence[object], where: str, count: int | None = None) -> np.ndarray | None:
    """Return a column of vectors as zeros and ones, (n, classes) int64, or None if it holds something else.

    It holds vectors if all rows are lists of the same length, at least two, of the numbers 0 and 1. (As lists of class numbers
    such rows would name classes twice, or all have the same two.)

    Args:
        cells: of the column: lists, or lists as text.
        where: file and column, for messages.
        count: of the classes, if it is known.

    Raises:
        DataError: the vectors have another length.
    """
    if not cells or not all(_may_be_vector(cell) for cell in cells):
        return None
    try:
        rows = as_lists(cells, None, where)
    except DataError:  # not vectors: the cells are read as labels
        return None
    length = len(rows[0])
    if length < 2 or any(len(row) != length for row in rows):
        return None
    if not all(isinstance(value, (bool, int, float, np.number, np.bool_)) and value in (0, 1) for row in rows for value in row):
        return None
    if count not in (None, length) and all(len(set(row)) == length for row in rows):
        return None  # the classes 0 and 1, by number
    if count is not None and length != count:
        raise DataError(f"the vectors of {where} have {length} places, and there are {count} classes", "give a place to every class")
    console.once(f"{where} holds vectors of zeros and ones: place 0 is the first class")
    return np.array(rows).astype(np.int64)


def _may_be_vector(cell: object) -> bool:
    return is_nested(cell) and not isinstance(cell, dict) if not isinstance(cell, str) else cell.strip()[:1] == "["
