"""Turn the cells of a label column into class numbers, label sets, or values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from compress.core import console
from compress.core.errors import DataError
from compress.data.cells import as_lists, is_missing, is_nested, label_text, shorten
from compress.data.input_spec import Target
from compress.data.label_vectors import vectors_of
from compress.data.literals import HALF_A_CHARACTER
from compress.data.separators import DEFAULT_SEPARATOR, better_separator

NO_LABELS = {"", "nan", "<NA>"}  # how files write that a row has no label
UNLABELED = -1  # the same in columns of numbers, as in GLUE's test files
FEW_ROWS = 20  # with fewer, the labels of any column may differ
MANY_LABELS = 200  # with more, a column whose labels hardly repeat does not hold classes
_INTEGER = re.compile(r"(-?\d+)(?:\.0+)?", re.ASCII)
_NUMBERED = re.compile(r"(?:LABEL_)?(\d+)", re.ASCII)


def natural_order(label: str) -> tuple[bool, int, str]:
    """Sort key: numbers by value, then text."""
    return (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)


def plain_labels(cells: Sequence[object], where: str = "the column", names: Sequence[str] = ()) -> list[object]:
    """Return labels without blanks at their ends, with a warning, and 1.0 written as 1 in text columns of such numbers.

    Args:
        cells: one label each.
        where: file and column, for messages.
        names: label names that stay as they are.
    """
    texts = {cell for cell in cells if isinstance(cell, str)} - set(names)
    stripped = {text: text.strip() for text in texts if text != text.strip()}
    if stripped:
        count = sum(isinstance(cell, str) and cell in stripped for cell in cells)
        console.warn_once(f"{count} labels of {where} have blanks at their ends, which are ignored: {min(stripped)!r}")
    numbers = [_INTEGER.fullmatch(stripped.get(text, text)) for text in texts if text.strip() not in NO_LABELS]
    if all(numbers) and any("." in match[0] for match in numbers if match):
        integers = {text: match[1] for text in texts if (match := _INTEGER.fullmatch(text.strip()))}
        stripped |= integers
    return [stripped.get(cell, cell) if isinstance(cell, str) else cell for cell in cells] if stripped else list(cells)


def distinct_labels(cells: Sequence[object]) -> list[str]:
    """Return the labels that occur in a column, each once, in natural order; a cell may hold one label or a list.

    `-1` as a number means that a row has no label, also as text in a column of numbers from 0.
    """
    flat = [label for cell in cells for label in (cell if isinstance(cell, list) else [cell])]
    texts = {label_text(label) for label in flat if not is_missing(label) and label != UNLABELED} - NO_LABELS
    if "-1" in texts and "0" in texts and all(_INTEGER.fullmatch(text) for text in texts):
        texts.discard("-1")
    return sorted(texts, key=natural_order)


def discover_labels(cells: Sequence[object], target: Target, where: str, training: bool, separator: str = DEFAULT_SEPARATOR) -> list[str]:
    """Return the label names of a task that does not name them: those that occur in the label column of a split.

    Args:
        cells: of the column.
        target: of the task.
        where: file and column, for messages.
        training: the cells are those of training data, which needs two labels.
        separator: between the labels of a row (several labels).

    Raises:
        DataError: there are none, training data with only one, one that is no Unicode text, or a column that holds numbers rather
            than classes.
    """
    if (vectors := vectors_of(cells, where)) is not None and target in ("class", "labels"):
        return [str(number) for number in range(vectors.shape[1])]
    lists = as_lists(cells, separator if target == "labels" else None, where) if target in ("labels", "tags") else None
    flat = plain_labels(cells if lists is None else [label for row in lists for label in row], where)
    names = distinct_labels(flat)
    if not names:
        raise DataError(f"{where} has no labels{_unlabeled(flat)}")
    if (broken := next((name for name in names if HALF_A_CHARACTER.search(name)), None)) is not None:
        raise DataError(f"{where} has the label {broken!a}, which has half of a surrogate pair: it is no Unicode text", "repair it")
    if len(names) < 2 and training:
        raise DataError(
            f"{where} has only one label, {names[0]!r}: there is nothing to learn{_unlabeled(flat)}", "is it the right label column?"
        )
    hint = "for numbers use --kind regression; or name another column with --label"
    if target == "class" and any(isinstance(cell, float) and math.isfinite(cell) and not cell.is_integer() for cell in cells):
        raise DataError(f"{where} holds numbers with decimals, which are not classes", hint)
    if target == "class" and len(cells) > FEW_ROWS and 2 * len(names) > len(cells) and (training or len(names) > MANY_LABELS):
        raise DataError(
            f"{where} has {len(names)} different labels in {len(cells)} rows: is --label right? ({_some(names)})",
            "name another column with --label; for numbers use --kind regression; for classes, list them as 'labels' in a task file",
        )
    if target == "labels" and (better := better_separator(cells, separator)):
        console.warn_once(
            f"{where}: labels such as {better.example!r} are read as one label; if they are several, give --separator '{better.mark}'"
        )
    if "None" in names:
        console.warn_once(f"{where}: 'None' is taken for the name of a class")
    return names


def _some(names: Sequence[object]) -> str:
    """Return five label names, cut to 20 characters, for a message."""
    return shorten(names, 5, 20)


def _unlabeled(cells: Sequence[object]) -> str:
    """Describe the cells that say that a row has no label."""
    wrong = [cell for cell in cells if _has_no_label(cell)]
    return f" ({len(wrong)} rows have {wrong[0]!r}, which means no label)" if wrong else ""


def _has_no_label(cell: object) -> bool:
    return is_missing(cell) or cell == UNLABELED or label_text(cell).strip() in {*NO_LABELS, "-1"}


def read_classes(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> np.ndarray:
    """Return the class number of each cell, (n,) int64.

    Args:
        cells: names or numbers, or vectors of zeros with a single one.
        names: the label names in the order of their numbers.
        numbers_allowed: the task or the file names its labels, so that a number is the position of a name.
        where: file and column, for messages.

    Raises:
        DataError: a cell that is no label.
    """
    vectors = vectors_of(cells, where, len(names))
    if vectors is not None:
        wrong = np.flatnonzero(vectors.sum(axis=1) != 1)
        if len(wrong):
            raise DataError(
                f"row {wrong[0] + 1} of {where} has {int(vectors[wrong[0]].sum())} ones in its vector, and a row has one class",
                "for several labels add --multi-label",
            )
        return vectors.argmax(axis=1)
    labels = plain_labels(cells, where, names)
    number_of = numbering(labels, names, numbers_allowed, where)
    return np.array(require_all([number_of(cell) for cell in labels], cells, names, where), dtype=np.int64)


def read_label_sets(
    cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str, separator: str = DEFAULT_SEPARATOR
) -> np.ndarray:
    """Return zeros and ones for each cell's set of labels, (n, labels) float32; a set may be empty."""
    vectors = vectors_of(cells, where, len(names))
    if vectors is not None:
        return vectors.astype(np.float32)
    rows = as_lists(cells, separator, where)
    flat = plain_labels([label for row in rows for label in row], where, names)
    number_of, position_of = numbering(flat, names, numbers_allowed, where), iter(flat)
    matrix = np.zeros((len(rows), len(names)), dtype=np.float32)
    for position, row in enumerate(rows):
        found = [number_of(next(position_of)) for _ in row]
        if None in found and (better := better_separator(cells, separator)):
            raise DataError(
                f"row {position + 1} of {where}: {row[found.index(None)]!r} is no label (known: {_some(names)})",
                f"for several labels in a text give --separator '{better.mark}'",
            )
        numbers = require_all(found, row, names, f"row {position + 1} of {where}")
        if len(set(numbers)) < len(numbers):
            raise DataError(f"row {position + 1} of {where} holds a label twice: {shorten(row)}", "a row has each label once")
        matrix[position, numbers] = 1
    return matrix


def read_values(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> np.ndarray:
    """Return the value of each cell, (n,) float32; text that is a number counts, missing values and infinities do not."""
    numbers = np.array([_number(cell) for cell in cells], dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(cells)} values of {where} are not finite numbers, the first is {cells[bad[0]]!r} in row {bad[0] + 1}",
            "regression needs a number in every row; for classes use --kind text-classification",
        )
    return numbers


def numbering(
    cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str = "the column"
) -> Callable[[object], int | None]:
    """Return the function from a label to its number, None for an unknown one.

    A column holds names or numbers (`3` or `LABEL_3`), never both: if every cell is a name, digits are names too and not
    positions. Names in another case count where they are unambiguous, with a warning.
    """
    numbers = {name: number for number, name in enumerate(names)}
    texts = {label_text(cell) for cell in cells if not _has_no_label(cell) or label_text(cell) in numbers}
    by_number = numbers_allowed and any(map(_NUMBERED.fullmatch, texts - set(numbers)))
    folded = [name.strip().casefold() for name in names]
    differing = {text for text in texts - set(numbers) if folded.count(text.strip().casefold()) == 1}
    if differing and not by_number:
        shown = ", ".join(f"{text!r} is {names[folded.index(text.strip().casefold())]!r}" for text in sorted(differing)[:4])
        console.warn_once(f"labels of {where} are matched without regard to case and blanks: {shown}")

    def number_of(cell: object) -> int | None:
        text = label_text(cell)
        if not by_number:
            number = numbers.get(text)
            return folded.index(text.strip().casefold()) if number is None and text in differing else number
        match = _NUMBERED.fullmatch(text)
        return int(match[1]) if match and int(match[1]) < len(names) else None

    return number_of


def require_all(numbers: Sequence[int | None], cells: Sequence[object], names: list[str], where: str) -> list[int]:
    """Return the numbers if every cell has one.

    Raises:
        DataError: the first cell without a number.
    """
    wrong = [row for row, number in enumerate(numbers) if number is None]
    if wrong:
        cell = cells[wrong[0]]
        if is_nested(cell):
            hint = "for several labels add --multi-label"
        elif _has_no_label(cell):
            hint = "rows without a label cannot be used: drop them; if it is a class, list all in the task file's 'labels'"
        else:
            hint = "correct the label column, or the 'labels' of the task file"
        row = "" if where.startswith("row ") else f" in row {wrong[0] + 1}"
        raise DataError(
            f"{len(wrong)} of {len(cells)} labels of {where} are unusable, the first is {cell!r}{row} (known: {_some(names)})", hint
        )
    return [number for number in numbers if number is not None]


def _number(cell: object) -> float:
    try:
        return float(cell)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return math.nan
