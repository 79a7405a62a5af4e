"""Texts without labels: for calibration and distillation, where the teacher's outputs are enough."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.core.errors import DataError, did_you_mean
from compress.data.cells import is_missing, shorten
from compress.data.columns import batch_texts
from compress.data.examples import Examples
from compress.data.mentions import read_mentions
from compress.data.sources import FileSource
from compress.data.spec import TaskSpec
from compress.data.streamed import Texts
from compress.data.tables import column_names, existing_file, read_batches
from compress.data.text_files import lines_of, not_text
from compress.data.texts import examples_from_texts


def read_unlabeled(name: str, spec: TaskSpec) -> Examples:
    """Read texts from a .txt file (one per line) or from the task's text columns of a table; labels are ignored.

    The labels of the result are zeros (of tags one per word) and mean nothing. Those of mention pairs, which a table has, say where the
    mentions stand.

    Raises:
        DataError: no such file, an empty one, no such column, or one text per line for a task that takes two.
    """
    path = existing_file(name)
    if spec.target == "mentions":
        return read_mentions(FileSource((path,)), labeled=False)
    texts: Sequence[str | Texts] = _lines(path, spec) if path.suffix == ".txt" else _table_texts(path, spec)
    if not texts:
        raise DataError(f"{path} has no texts", "give a file with at least a few hundred texts like those that the model will get")
    return examples_from_texts(texts, spec.input_spec)


def append_unlabeled(labeled: Examples, unlabeled: Examples) -> Examples:
    """Append texts without labels to those with labels; their labels are zeros."""
    texts = [*labeled.texts, *unlabeled.texts]
    if isinstance(labeled.labels, list):
        return Examples(texts, [*labeled.labels, *unlabeled.labels])
    if unlabeled.labels.ndim == 2:  # of mention pairs, whose labels say where the mentions stand
        return Examples(texts, np.concatenate([labeled.labels, unlabeled.labels]))
    zeros = np.zeros((len(unlabeled), *labeled.labels.shape[1:]), dtype=labeled.labels.dtype)
    return Examples(texts, np.concatenate([labeled.labels, zeros]))


def _lines(path: Path, spec: TaskSpec) -> list[str]:
    if len(spec.text) > 1 and spec.target != "vector":
        raise DataError(
            f"{path} has one text a line, and {spec.name} takes {len(spec.text)}",
            "use a table with the columns " + ", ".join(spec.text),
        )
    try:
        lines = [line.strip() for line in lines_of(path)]
    except UnicodeDecodeError as error:
        raise not_text(path) from error
    return [line for line in lines if line]


def _table_texts(path: Path, spec: TaskSpec) -> list[Texts]:
    """Return the texts of the rows that have all of them."""
    columns = list(dict.fromkeys(spec.text))
    names = column_names(path, columns)
    for column in columns:
        if column not in names:
            raise DataError(f"{path} has no column '{column}'{did_you_mean(column, names)}; it has: {shorten(names)}")
    complete: list[tuple[object, ...]] = []
    for batch in read_batches(path, columns):
        complete += [row for row in zip(*batch.values(), strict=True) if not any(map(is_missing, row))]
    return batch_texts({column: [row[number] for row in complete] for number, column in enumerate(columns)}, spec, str(path))
