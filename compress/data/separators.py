"""Labels of a row that are separated by something else than the task says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_SEPARATOR = "|"  # between the labels of a row in files without lists
MARKS = (",", ";", "#", "/", "&", "+", "\t", "|", ":", " ")


@dataclass(frozen=True)
class Better:
    """A separator that the cells seem to use, and a cell with it."""

    mark: str
    example: str


def better_separator(cells: Sequence[object], separator: str) -> Better | None:
    """Return the separator that text cells seem to use instead of `separator`, or None.

    A mark separates labels if no cell has the given separator, and the parts of the cells with the mark also occur in other cells: for
    a blank all of them, else one.
    """
    texts = {cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()}
    if any(separator in text or text.startswith("[") for text in texts):
        return None
    for mark in MARKS:
        with_mark = {text: {part.strip() for part in text.split(mark)} - {""} for text in sorted(texts) if mark in text}
        counts = Counter(part for text in texts for part in with_mark.get(text, {text}))
        parts = {part for parts_of_cell in with_mark.values() for part in parts_of_cell}
        recurring = {part for part in parts if counts[part] > 1}
        if recurring and (mark != " " or recurring == parts):
            return Better(mark, next(iter(with_mark)))
    return None
