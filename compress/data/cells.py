"""The values of cells: a label as text, lists that may be written as text, missing values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compress.core.errors import DataError
from compress.data.literals import parse_literal

SHOWN = 12


def shorten(names: Sequence[object], limit: int = SHOWN, width: int = 0) -> str:
    """Join the first `limit` names, each cut to `width` characters (0: whole); say how many there are if there are more."""
    texts = [text if not width or len(text) <= width else f"{text[:width]}…" for text in map(str, names[:limit])]
    return ", ".join(texts) + (f", … ({len(names)} in all)" if len(names) > limit else "")


def is_missing(value: object) -> bool:
    """Tell whether a cell has no value: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in ("NaTType", "NAType")


def is_nested(value: object) -> bool:
    """Tell whether a cell holds a list or a mapping."""
    return isinstance(value, (list, tuple, np.ndarray, dict))


def label_text(value: object) -> str:
    """Return a label as text: 1.0 is '1', a missing one is ''."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def as_lists(cells: Sequence[object], separator: str | None, where: str = "the column") -> list[list[object]]:
    """Return the cells of a column as lists: text is split at the separator (None: at whitespace), a missing value is an empty list.

    If at least half of the texts are in brackets, the column holds lists as text (see `parse_literal`). Otherwise a text in brackets
    is a text like others.

    Args:
        cells: of the column.
        separator: between values in a text.
        where: file and column, for messages.

    Raises:
        DataError: a cell that is no list where the others are, or holds something else than texts and numbers.
    """
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    in_brackets = 2 * sum(map(_in_brackets, texts)) >= max(1, len(texts))
    lists = [_as_list(cell, separator, in_brackets, f"row {number} of {where}") for number, cell in enumerate(cells, start=1)]
    for number, values in enumerate(lists, start=1):
        wrong = next((value for value in values if is_nested(value) or is_missing(value)), values)
        if wrong is not values:
            raise DataError(f"row {number} of {where} holds {str(wrong)[:60]!r} in its list", "a list holds texts or numbers, one a place")
    return lists


def tokens_of(cells: Sequence[object], where: str = "the column") -> list[tuple[str, ...]]:
    """Return the tokens of each cell: a list, or text split at whitespace."""
    return [tuple(map(str, tokens)) for tokens in as_lists(cells, None, where)]


def _in_brackets(text: str) -> bool:
    text = text.strip()
    return (text.startswith("[") and text.endswith("]")) or (text.startswith("array([") and text.endswith(")"))


def _as_list(value: object, separator: str | None, in_brackets: bool, where: str) -> list[object]:
    if isinstance(value, str):
        if not in_brackets or not value.strip():
            return [part.strip() for part in value.split(separator) if part.strip()]
        return _parse_list(value.strip(), where)
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    return [] if is_missing(value) else [value]


def _parse_list(text: str, where: str) -> list[object]:
    try:
        parsed = parse_literal(text)
        if isinstance(parsed, list):
            return parsed
        reason = "it is no list"
    except ValueError as error:
        reason = str(error)
    raise DataError(
        f"{where} looks like a list but is not one: {text[:60]!r} ({reason})" if _in_brackets(text) else
        f"{where} is no list, as other rows are: {text[:60]!r}",
        "write lists as JSON, or use Parquet or JSON lines",
    )  # fmt: skip
