"""The values of single cells: a label as text, a list that may be written as text, a missing value."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence

import numpy as np

from compress.core.errors import DataError

SHOWN = 12


def shorten(names: Sequence[object], limit: int = SHOWN) -> str:
    """Join the first `limit` names; say how many there are if there are more."""
    return ", ".join(str(name) for name in names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")


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


def as_list(value: object, separator: str | None) -> list[object]:
    """Return a cell as a list: text is split at the separator (None: at whitespace), a missing value is an empty list.

    Raises:
        DataError: text in brackets, but no list.
    """
    if isinstance(value, str):
        if value.startswith("[") and value.endswith("]"):
            return _parse_list(value)
        return [part.strip() for part in value.split(separator) if part.strip()]
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    return [] if value is None or (isinstance(value, float) and math.isnan(value)) else [value]


def tokens_of(value: object) -> tuple[str, ...]:
    """Return the tokens of a cell: a list, or text split at whitespace."""
    return tuple(str(token) for token in as_list(value, None))


def _parse_list(text: str) -> list[object]:
    """Parse a list that a CSV cell holds as text: JSON, or `['a', 'b']` as pandas writes it."""
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(parsed, list):
            return parsed
    raise DataError(f"a cell looks like a list but is not one: {text[:60]!r}", "write lists as JSON, or use Parquet or JSON lines")
