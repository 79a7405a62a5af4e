"""Read the text and label columns of a split, checked row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from compress.core.errors import DataError, did_you_mean
from compress.data.cells import is_missing, is_nested, shorten, tokens_of
from compress.data.label_vectors import vectors_of
from compress.data.sequence_labels import segment_words
from compress.data.sources import Source
from compress.data.spec import TaskSpec
from compress.data.streamed import StreamedTexts, Texts
from compress.data.tables import ColumnBatch

IN_MEMORY_BYTES = 256 << 20  # of a split's rows; the texts of larger ones are streamed


def read_columns(source: Source, spec: TaskSpec, in_memory: int = IN_MEMORY_BYTES) -> tuple[Sequence[Texts], list[object]]:
    """Return the texts and the label cells of a split.

    Args:
        source: of the split.
        spec: names the columns.
        in_memory: texts of a split that takes more bytes are streamed, if each example has one label.

    Raises:
        DataError: no rows, no such column, rows without a text, or lists where the task needs single values.
    """
    columns = list(dict.fromkeys([*spec.text, spec.label]))
    _require_columns(source.column_names(columns), columns, source.where)
    stream = (spec.target in ("class", "labels", "value") or spec.compares_vectors) and source.size() > in_memory
    missing: Counter[str] = Counter()
    shared: dict[str, str] = {}  # equal label texts are one object
    texts: list[Texts] = []
    cells: list[object] = []
    sentences: list[object] = []
    first: ColumnBatch = {}
    for batch in source.batches(columns):
        for column in spec.text:
            missing[column] += sum(map(is_missing, batch[column]))
        first = first or {column: values[:1] for column, values in batch.items()}
        if spec.compares_vectors:
            cells += [None] * len(batch[spec.label])  # without labels
        else:
            cells += [shared.setdefault(cell, cell) if isinstance(cell, str) else cell for cell in batch[spec.label]]
        if spec.target == "tags":
            sentences += batch[spec.text[0]]
        elif not stream:
            texts += batch_texts(batch, spec, source.where)
    if not cells:
        raise DataError(f"{source.where} has no rows")
    for column in spec.text:
        if missing[column]:
            raise DataError(f"{missing[column]} of {len(cells)} rows of {source.where} have no text in column '{column}'")
    _refuse_lists(first, cells, spec, source.where)
    if stream:
        return streamed_texts(source, spec, len(cells)), cells
    if spec.target == "tags":
        texts = batch_texts({spec.text[0]: sentences}, spec, f"{source.where}, column '{spec.text[0]}'")
    if spec.segment:
        characters, tags = segment_words(texts)
        return characters, list(tags)
    return texts, cells


def batch_texts(batch: ColumnBatch, spec: TaskSpec, where: str) -> list[Texts]:
    """Return the texts of a batch of rows: the tokens of a sentence for tags, else one or two texts.

    For tags the batch is the whole column: whether text in brackets is a list depends on all rows.
    """
    if spec.target == "tags":
        return list(tokens_of(batch[spec.text[0]], where))
    return list(zip(*([str(cell) for cell in batch[column]] for column in spec.text), strict=True))


def streamed_texts(source: Source, spec: TaskSpec, count: int) -> StreamedTexts:
    """Return the texts of a source of `count` rows, read again on each use."""

    def read() -> Iterator[Texts]:
        for batch in source.batches(spec.text):
            yield from batch_texts(batch, spec, source.where)

    return StreamedTexts(read, np.arange(count))


def _require_columns(names: list[str], columns: Sequence[str], where: str) -> None:
    if not names:
        raise DataError(f"{where} has no rows")
    for column in columns:
        if column not in names:
            raise DataError(
                f"{where} has no column '{column}'{did_you_mean(column, names)}; it has: {shorten(names)}",
                "name the columns with --text and --label",
            )


def _refuse_lists(first: ColumnBatch, cells: Sequence[object], spec: TaskSpec, where: str) -> None:
    """Refuse columns of lists, by their `first` row, where the task needs single values: they belong to another kind of task.

    Raises:
        DataError: the label or a text is a list.
    """
    if spec.target == "tags":
        return
    one_hot = spec.target == "class" and vectors_of(cells, where) is not None
    if spec.target in ("class", "value", "vector") and is_nested(first[spec.label][0]) and not one_hot:
        raise DataError(
            f"column '{spec.label}' of {where} holds lists, and {spec.kind} needs one answer a row", "for several labels add --multi-label"
        )
    for column in spec.text:
        if is_nested(first[column][0]):
            raise DataError(
                f"column '{column}' of {where} holds lists, and {spec.kind} needs text", "for tokens use --kind token-classification"
            )
