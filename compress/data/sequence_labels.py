"""Turn the cells of a label column into tags of tokens, or answer spans of a context."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from compress.core.errors import DataError
from compress.data.labels import numbering, require_all, tag_lists

Answer = tuple[int, str]  # first character in the context, text


def read_tags(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> list[np.ndarray]:
    """Return the tag numbers of each row's tokens, each (tokens,) int64; arguments as for `labels.read_classes`."""
    rows = tag_lists(cells)
    number_of = numbering([tag for row in rows for tag in row], names, numbers_allowed)
    return [
        np.array(require_all([number_of(tag) for tag in row], row, names, f"row {position + 1} of {where}"), dtype=np.int64)
        for position, row in enumerate(rows)
    ]


def read_spans(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> list[list[Answer]]:
    """Return the answers of each row in SQuAD's format, as (first character, text); an empty list for no answer."""
    rows = []
    for position, cell in enumerate(cells):
        answers = _answers(cell)
        if answers is None:
            raise DataError(
                f"row {position + 1} of {where} is no SQuAD answer: {str(cell)[:80]!r}",
                "it needs the lists 'text' and 'answer_start', of the same length",
            )
        rows.append(answers)
    return rows


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


def check_spans(contexts: Sequence[str], answers: Sequence[list[Answer]], no_answer: bool, where: str) -> None:
    """Check that every answer occurs in its context at its position.

    Raises:
        DataError: the first that does not, or a row without an answer unless `no_answer`.
    """
    for position, (context, row) in enumerate(zip(contexts, answers, strict=True)):
        if not row and not no_answer:
            raise DataError(f"row {position + 1} of {where} has no answer", "for questions without an answer set no_answer: true")
        for start, text in row:
            if start < 0 or context[start : start + len(text)] != text:
                there = context[max(0, start) : max(0, start) + len(text)]
                raise DataError(
                    f"row {position + 1} of {where}: the answer {text[:60]!r} does not stand at character {start} of its context "
                    f"(there stands {there[:60]!r})",
                    "answer_start counts characters from 0; were the contexts cleaned after the answers were marked?",
                )


def _answers(cell: object) -> list[Answer] | None:
    """Return the answers of a cell: SQuAD's mapping, or the same as JSON text; None if it is neither."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            return None
    if not isinstance(cell, dict):
        return None
    texts, starts = cell.get("text"), cell.get("answer_start")
    lists = (list, tuple, np.ndarray)
    if not isinstance(texts, lists) or not isinstance(starts, lists) or len(texts) != len(starts):
        return None
    if not all(isinstance(start, (int, np.integer)) for start in starts):
        return None
    return [(int(start), str(text)) for start, text in zip(starts, texts, strict=True)]
