"""Turn the cells of a label column into answer spans of a context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.core import console
from compress.core.errors import DataError
from compress.data.cells import is_missing
from compress.data.literals import parse_literal

Answer = tuple[int, str]  # first character in the context, text
NEARBY = 32  # characters by which a position may be wrong to be repaired


def read_spans(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> list[list[Answer]]:
    """Return the answers of each row as (first character, text); an empty list for no answer.

    A cell is SQuAD's mapping of two lists, a mapping of one text and its position, a list of such mappings, or one of these as JSON
    or as Python writes it.

    Raises:
        DataError: the first cell that is something else.
    """
    rows = []
    for position, cell in enumerate(cells):
        answers = _answers(cell)
        if answers is None:
            raise DataError(
                f"row {position + 1} of {where} is no SQuAD answer: {str(cell)[:80]!r}",
                "it needs the lists 'text' and 'answer_start', of the same length",
            )
        rows.append([answer for answer in answers if answer[1]])
    return rows


def place_answers(
    contexts: Sequence[str], rows: Sequence[list[Answer]], no_answer: bool, where: str
) -> tuple[np.ndarray, list[list[Answer]]]:
    """Return the positions of the rows that can be used, and their answers at the places where they stand.

    An answer that does not stand at its position is moved if its text occurs once nearby, else left out, with a warning that counts
    them. A row that loses all its answers is left out.

    Raises:
        DataError: a row without an answer unless `no_answer`, or most rows would be left out.
    """
    kept, placed, moved, lost = [], [], [], []
    for position, (context, row) in enumerate(zip(contexts, rows, strict=True)):
        if not row and not no_answer:
            raise DataError(f"row {position + 1} of {where} has no answer", "for questions without an answer give --no-answer")
        places = [place for answer in row if (place := _place(context, answer)) is not None]
        if places != row:
            (lost if len(places) < len(row) else moved).append(position)
        if places or not row:
            kept.append(position)
            placed.append(places)
    if 2 * (len(rows) - len(kept)) > len(rows):
        raise DataError(
            f"{_describe(contexts, rows, lost[0], where)}, nor do those of {len(lost) - 1} more of {len(rows)} rows",
            "answer_start counts characters from 0; were the contexts cleaned after the answers were marked?",
        )
    if moved:
        console.warn_once(
            f"{len(moved)} rows of {where}: answers moved by a few characters to where their text stands, the first in row {moved[0] + 1}"
        )
    if lost:
        console.warn_once(
            f"{len(lost)} rows of {where} have answers that do not stand in their context; {len(rows) - len(kept)} rows are skipped. "
            f"The first: {_describe(contexts, rows, lost[0], where)}"
        )
    return np.array(kept, dtype=np.int64), placed


def _place(context: str, answer: Answer) -> Answer | None:
    """Return an answer at the place where its text stands, or None."""
    start, text = answer
    if start >= 0 and context.startswith(text, start):
        return answer
    first = max(0, start - NEARBY)
    nearby = context[first : max(0, start) + NEARBY + len(text)]
    place = nearby.find(text)
    return (first + place, text) if place >= 0 and nearby.find(text, place + 1) < 0 else None


def _describe(contexts: Sequence[str], rows: Sequence[list[Answer]], position: int, where: str) -> str:
    context = contexts[position]
    start, text = next(answer for answer in rows[position] if _place(context, answer) is None)
    there = context[max(0, start) : max(0, start) + len(text)]
    return (
        f"row {position + 1} of {where}: the answer {text[:60]!r} does not stand at character {start} of its context "
        f"(there stands {there[:60]!r})"
    )


def _answers(cell: object) -> list[Answer] | None:
    """Return the answers of a cell; None if it holds something else."""
    if isinstance(cell, str) and cell.strip():
        try:
            cell = parse_literal(cell)
        except ValueError:
            return None
    if is_missing(cell) or (isinstance(cell, str) and not cell.strip()):
        return []
    if isinstance(cell, dict):
        texts, starts = cell.get("text"), cell.get("answer_start")
        if isinstance(texts, str):
            return _paired([texts], [starts])
        return _paired(texts, starts)
    if isinstance(cell, (list, tuple, np.ndarray)):
        each = [_answers(entry) if isinstance(entry, dict) else None for entry in cell]
        return None if None in each else [answer for answers in each if answers for answer in answers]
    return None


def _paired(texts: object, starts: object) -> list[Answer] | None:
    lists = (list, tuple, np.ndarray)
    if not isinstance(texts, lists) or not isinstance(starts, lists) or len(texts) != len(starts):
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    if not all(_is_integer(start) for start in starts):
        return None
    return [(int(start), str(text)) for start, text in zip(starts, texts, strict=True)]


def _is_integer(value: object) -> bool:
    if isinstance(value, (float, np.floating)):
        return bool(value == np.floor(value))
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
