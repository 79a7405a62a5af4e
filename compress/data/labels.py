"""From a column's raw values to what a task asks for: classes, sets of labels, values, tags, spans; each checked.

One reader a target. A reader returns the gold of every row, or raises `DataError` that names the first bad row.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress.core.errors import DataError

NO_LABELS = {"", "nan", "None", "<NA>", "-1"}  # how files write that a row has no label
SEPARATOR = "|"  # between the labels of a row in files without lists
SHOWN = 12


def shorten(names: Sequence[Any], limit: int = SHOWN) -> str:
    """Write some of many names."""
    return ", ".join(str(name) for name in names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")


def label_text(value: Any) -> str:
    """Return a label as text: 1.0 is '1', nothing is ''."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def natural_order(label: str) -> tuple[bool, int, str]:
    """Sort numbers by value, before words."""
    return (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)


def found_labels(values: Sequence[Any]) -> list[str]:
    """Return the labels that stand in a column, each once, in natural order; rows may hold one or many."""
    texts: set[str] = set()
    for value in values:
        texts.update(map(label_text, value) if isinstance(value, list) else [label_text(value)])
    return sorted(texts - NO_LABELS, key=natural_order)


def classes(values: Sequence[Any], names: list[str], given: bool, where: str) -> np.ndarray:
    """Return the number of each row's label, (n,) int64.

    Args:
        values: names or numbers.
        names: the labels in the order of their numbers.
        given: the names are the task's own, so that numbers may stand for them.
        where: file and column, for messages.
    """
    number_of = _numbering(values, names, given)
    return np.array(_refuse([number_of(value) for value in values], values, names, where), dtype=np.int64)


def label_sets(values: Sequence[Any], names: list[str], given: bool, where: str) -> np.ndarray:
    """Return a row of zeros and ones for each row's set of labels, (n, labels) float32; a set may be empty."""
    rows = label_lists(values)
    number_of = _numbering([label for row in rows for label in row], names, given)
    matrix = np.zeros((len(rows), len(names)), dtype=np.float32)
    for position, row in enumerate(rows):
        numbers = _refuse([number_of(label) for label in row], row, names, f"row {position + 1} of {where}")
        if len(set(numbers)) < len(numbers):
            raise DataError(
                f"row {position + 1} of {where} holds a label twice: {shorten(row)}",
                "a row lists its labels by name or number; a vector of zeros and ones is not understood",
            )
        matrix[position, numbers] = 1
    return matrix


def values(raw: Sequence[Any], names: list[str], given: bool, where: str) -> np.ndarray:
    """Return the value of each row, (n,) float32; text that is a number counts, nothing and infinities do not."""
    numbers = np.array([_number(value) for value in raw], dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(raw)} values of {where} are not finite numbers, the first is {raw[bad[0]]!r} in row {bad[0] + 1}",
            "regression needs a number in every row; for classes use --kind text-classification",
        )
    return numbers


def tags(raw: Sequence[Any], names: list[str], given: bool, where: str) -> list[np.ndarray]:
    """Return the tag numbers of each row's tokens, each (tokens,) int64."""
    rows = tag_lists(raw)
    number_of = _numbering([tag for row in rows for tag in row], names, given)
    numbered = []
    for position, row in enumerate(rows):
        numbers = _refuse([number_of(tag) for tag in row], row, names, f"row {position + 1} of {where}")
        numbered.append(np.array(numbers, dtype=np.int64))
    return numbered


def spans(raw: Sequence[Any], names: list[str], given: bool, where: str) -> list[list[tuple[int, str]]]:
    """Return the answers of each row as (first character, text), as SQuAD writes them: none where there is no answer."""
    found = []
    for position, value in enumerate(raw):
        document = _answer_document(value)
        texts, starts = (_plain_list(document.get(key)) for key in ("text", "answer_start"))
        if (
            texts is None
            or starts is None
            or len(texts) != len(starts)
            or not all(isinstance(start, (int, np.integer)) for start in starts)
        ):
            raise DataError(
                f"row {position + 1} of {where} is no SQuAD answer: {str(value)[:80]!r}",
                "it needs the lists 'text' and 'answer_start', of the same length",
            )
        found.append([(int(start), str(text)) for start, text in zip(starts, texts, strict=True)])
    return found


READERS: dict[str, Callable[[Sequence[Any], list[str], bool, str], Any]] = {
    "class": classes,
    "labels": label_sets,
    "value": values,
    "tags": tags,
    "span": spans,
}


def label_lists(raw: Sequence[Any]) -> list[list[Any]]:
    """Return the labels of each row, as `label_sets` reads them."""
    return [_listed(value, SEPARATOR) for value in raw]


def tag_lists(raw: Sequence[Any]) -> list[list[Any]]:
    """Return the tags of each row, as `tags` reads them."""
    return [_listed(value, None) for value in raw]


def words_of(value: Any) -> tuple[str, ...]:
    """Return the tokens of a row: a list, or text split at blanks."""
    return tuple(str(word) for word in _listed(value, None))


def segmented(sentences: Sequence[Sequence[str]]) -> tuple[list[tuple[str, ...]], list[list[str]]]:
    """Return the characters of each row's words, and for each character its tag: B, M, E within a word, S for one alone."""
    characters, marks = [], []
    for words in sentences:
        characters.append(tuple("".join(words)))
        marks.append([mark for word in words if word for mark in ("S" if len(word) == 1 else "B" + "M" * (len(word) - 2) + "E")])
    return characters, marks


def check_tokens(sentences: Sequence[Sequence[str]], tagged: Sequence[Sequence[Any]], where: str) -> None:
    """Raise DataError where a row has another number of tags than of tokens, or no tokens at all."""
    for position, (words, marks) in enumerate(zip(sentences, tagged, strict=True)):
        if len(words) != len(marks):
            raise DataError(f"row {position + 1} of {where} has {len(words)} tokens and {len(marks)} tags", "give every token one tag")
        if not words:
            raise DataError(f"row {position + 1} of {where} has no tokens", "drop empty rows")


def check_spans(contexts: Sequence[str], answers: Sequence[list[tuple[int, str]]], no_answer: bool, where: str) -> None:
    """Raise DataError where an answer does not stand in its context where it says, or is missing and may not be."""
    for position, (context, given) in enumerate(zip(contexts, answers, strict=True)):
        if not given and not no_answer:
            raise DataError(f"row {position + 1} of {where} has no answer", "for questions without an answer set no_answer: true")
        for start, text in given:
            if start < 0 or context[start : start + len(text)] != text:
                found = context[max(0, start) : max(0, start) + len(text)]
                raise DataError(
                    f"row {position + 1} of {where}: the answer {text[:60]!r} does not stand at character {start} of its context "
                    f"(there stands {found[:60]!r})",
                    "answer_start counts characters from 0; were the contexts cleaned after the answers were marked?",
                )


def _numbering(values: Sequence[Any], names: list[str], given: bool) -> Callable[[Any], int | None]:
    """Return what turns a label into its number: by name, or by the number where no label is a name.

    A column holds names or numbers, never a mix: where all are names, the digits of a name are no position.
    """
    numbers = {name: number for number, name in enumerate(names)}
    by_number = given and not all(label_text(value) in numbers for value in values)

    def number_of(value: Any) -> int | None:
        text = label_text(value)
        if not by_number:
            return numbers.get(text)
        return int(text) if text.isdecimal() and int(text) < len(names) else None

    return number_of


def _refuse(numbers: Sequence[int | None], values: Sequence[Any], names: list[str], where: str) -> list[int]:
    """Return the numbers, if there is one for every label.

    Raises:
        DataError: the first label without one.
    """
    wrong = [value for value, number in zip(values, numbers, strict=True) if number is None]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(values)} labels of {where} are unusable, the first is {wrong[0]!r} (known: {shorten(names)})",
            "unlabelled rows cannot be used here; correct the label column or the task's 'labels'",
        )
    return [number for number in numbers if number is not None]


def _listed(value: Any, separator: str | None) -> list[Any]:
    """Return a list cell as a list; text is split at the separator (blanks where it is None), nothing is empty."""
    if isinstance(value, str):
        if value.startswith("[") and value.endswith("]"):
            return _written_list(value)
        parts = value.split(separator)
        return [part.strip() for part in parts if part.strip()]
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    return [] if value is None or (isinstance(value, float) and math.isnan(value)) else [value]


def _written_list(text: str) -> list[Any]:
    """Read a list that a CSV cell holds as text; `['a', 'b']`, as pandas writes it, counts as well as JSON."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list):
            return found
    raise DataError(f"a cell looks like a list and is none: {text[:60]!r}", "write lists as JSON, or use Parquet or JSON lines")


def _plain_list(value: Any) -> list[Any] | None:
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _answer_document(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}
