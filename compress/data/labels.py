"""Turn the cells of a label column into class numbers, label sets, or values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from compress.core.errors import DataError
from compress.data.cells import as_list, label_text, shorten
from compress.data.input_spec import Target

NO_LABELS = {"", "nan", "None", "<NA>", "-1"}  # how files write that a row has no label
SEPARATOR = "|"  # between the labels of a row in files without lists
MANY_LABELS = 200  # with more, a column whose labels hardly repeat does not hold classes


def natural_order(label: str) -> tuple[bool, int, str]:
    """Sort key: numbers by value, then text."""
    return (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)


def distinct_labels(cells: Sequence[object]) -> list[str]:
    """Return the labels that occur in a column, each once, in natural order; a cell may hold one label or a list."""
    texts: set[str] = set()
    for cell in cells:
        texts.update(map(label_text, cell) if isinstance(cell, list) else [label_text(cell)])
    return sorted(texts - NO_LABELS, key=natural_order)


def discover_labels(cells: Sequence[object], target: Target, column: str, split: str) -> list[str]:
    """Return the label names of a task that does not name them: those that occur in the label column of a split.

    Raises:
        DataError: there are none, training data with only one, or a column that holds numbers rather than classes.
    """
    lists = {"labels": label_lists, "tags": tag_lists}.get(target)
    names = distinct_labels(lists(cells) if lists else cells)
    if not names:
        raise DataError(f"the {split} split has no labels in column '{column}'")
    if len(names) < 2 and split == "train":
        raise DataError(
            f"the {split} split has only one label, {names[0]!r}: there is nothing to learn", f"is '{column}' the right label column?"
        )
    hint = "for numbers use --kind regression; or name another column with --label"
    if target == "class" and any(isinstance(cell, float) and math.isfinite(cell) and not cell.is_integer() for cell in cells):
        raise DataError(f"column '{column}' of the {split} split holds numbers with decimals: these are no classes", hint)
    if target == "class" and len(names) > MANY_LABELS and 2 * len(names) > len(cells):
        raise DataError(f"column '{column}' has {len(names)} different labels in {len(cells)} rows: these are no classes", hint)
    return names


def read_classes(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> np.ndarray:
    """Return the class number of each cell, (n,) int64.

    Args:
        cells: names or numbers.
        names: the label names in the order of their numbers.
        numbers_allowed: the task or the file names its labels, so that a number is the position of a name.
        where: file and column, for messages.

    Raises:
        DataError: a cell that is no label.
    """
    number_of = numbering(cells, names, numbers_allowed)
    return np.array(require_all([number_of(cell) for cell in cells], cells, names, where), dtype=np.int64)


def read_label_sets(cells: Sequence[object], names: list[str], numbers_allowed: bool, where: str) -> np.ndarray:
    """Return zeros and ones for each cell's set of labels, (n, labels) float32; a set may be empty."""
    rows = label_lists(cells)
    number_of = numbering([label for row in rows for label in row], names, numbers_allowed)
    matrix = np.zeros((len(rows), len(names)), dtype=np.float32)
    for position, row in enumerate(rows):
        numbers = require_all([number_of(label) for label in row], row, names, f"row {position + 1} of {where}")
        if len(set(numbers)) < len(numbers):
            raise DataError(
                f"row {position + 1} of {where} holds a label twice: {shorten(row)}",
                "a row lists its labels by name or number; a vector of zeros and ones is not supported",
            )
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


def label_lists(cells: Sequence[object]) -> list[list[object]]:
    """Return the labels of each cell as a list."""
    return [as_list(cell, SEPARATOR) for cell in cells]


def tag_lists(cells: Sequence[object]) -> list[list[object]]:
    """Return the tags of each cell as a list."""
    return [as_list(cell, None) for cell in cells]


def numbering(cells: Sequence[object], names: list[str], numbers_allowed: bool) -> Callable[[object], int | None]:
    """Return the function from a label to its number, None for an unknown one.

    A column holds names or numbers, never both: if every cell is a name, digits are names too and not positions.
    """
    numbers = {name: number for number, name in enumerate(names)}
    by_number = numbers_allowed and not all(label_text(cell) in numbers for cell in cells)

    def number_of(cell: object) -> int | None:
        text = label_text(cell)
        if not by_number:
            return numbers.get(text)
        return int(text) if text.isdecimal() and int(text) < len(names) else None

    return number_of


def require_all(numbers: Sequence[int | None], cells: Sequence[object], names: list[str], where: str) -> list[int]:
    """Return the numbers if every cell has one.

    Raises:
        DataError: the first cell without a number.
    """
    wrong = [cell for cell, number in zip(cells, numbers, strict=True) if number is None]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(cells)} labels of {where} are unusable, the first is {wrong[0]!r} (known: {shorten(names)})",
            "unlabelled rows cannot be used here; correct the label column or the task's 'labels'",
        )
    return [number for number in numbers if number is not None]


def _number(cell: object) -> float:
    try:
        return float(cell)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return math.nan
