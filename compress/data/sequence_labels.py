"""Turn the cells of a label column into tags of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.core.errors import DataError
from compress.data.cells import as_lists
from compress.data.labels import numbering, plain_labels, require_all


def read_tags(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> list[np.ndarray]:
    """Return the tag numbers of each row's tokens, each (tokens,) int64; arguments as for `labels.read_classes`."""
    rows = as_lists(cells, None, where)
    flat = plain_labels([tag for row in rows for tag in row], where, names)
    number_of, rest = numbering(flat, names, numbers_allowed, where), iter(flat)
    return [
        np.array(require_all([number_of(next(rest)) for _ in row], row, names, f"row {position + 1} of {where}"), dtype=np.int64)
        for position, row in enumerate(rows)
    ]


def segment_words(sentences: Sequence[Sequence[str]]) -> tuple[list[tuple[str, ...]], list[list[str]]]:
    """Return the characters of each row's words, and a tag per character: B, M, E within a word, S for a word of one."""
    characters, tags = [], []
    for words in sentences:
        characters.append(tuple("".join(words)))
        tags.append([tag for word in words if word for tag in ("S" if len(word) == 1 else "B" + "M" * (len(word) - 2) + "E")])
    return characters, tags


def check_tags(sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[object] | np.ndarray], where: str) -> None:
    """Check that every row has tokens, and one tag per token.

    Raises:
        DataError: the first row that does not.
    """
    for position, (tokens, row) in enumerate(zip(sentences, tags, strict=True)):
        if len(tokens) != len(row):
            raise DataError(f"row {position + 1} of {where} has {len(tokens)} tokens and {len(row)} tags", "give every token one tag")
        if not tokens:
            raise DataError(f"row {position + 1} of {where} has no tokens", "drop empty rows")
