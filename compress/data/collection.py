"""Collections of texts with ids, as retrieval knows them: a corpus of documents, or queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compress.core import console
from compress.core.errors import DataError, did_you_mean
from compress.data.cells import is_missing, is_nested, label_text, shorten
from compress.data.columns import IN_MEMORY_BYTES
from compress.data.rankings import id_ranks
from compress.data.row_places import place_of_row
from compress.data.sources import FileSource, Source
from compress.data.streamed import StreamedTexts, Texts
from compress.data.tables import ColumnBatch, file_format

ID_COLUMNS = ("_id", "id")
TEXT, TITLE = "text", "title"


@dataclass(frozen=True)
class Collection:
    """Texts with ids.

    `texts` holds one text each, of a document with a title `title text`, as BEIR joins them: a list, or `StreamedTexts` if they take
    more memory than allowed. `where` is what messages call the collection.
    """

    ids: list[str]
    texts: Sequence[Texts]
    where: str

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the positions of those of `ids` that are in the collection."""
        names = set(ids)
        return {name: position for position, name in enumerate(self.ids) if name in names}

    @cached_property
    def ranks(self) -> np.ndarray:
        """The place of each id in ascending order, (n,) int64, which decides between equal scores."""
        return id_ranks(self.ids)

    def take(self, positions: np.ndarray) -> Sequence[Texts]:
        """Return the texts at `positions`; ask for many at once, because a streamed collection is read from its start."""
        if isinstance(self.texts, StreamedTexts):
            return self.texts.take(positions)
        return [self.texts[position] for position in positions.tolist()]


def read_collection(source: Source, in_memory: int = IN_MEMORY_BYTES) -> Collection:
    """Read the columns `_id` (or `id`), `text` and, if there is one, `title`.

    Args:
        source: of the rows.
        in_memory: texts that take more bytes are streamed whenever they are needed; ids always stay in memory.

    Raises:
        DataError: no rows, no such column, a row without id or text, an id that occurs twice; the message has file and line.
    """
    id_column, columns = _columns(source)
    stream = source.size() > in_memory
    ids: list[str] = []
    texts: list[Texts] = []
    empty = 0
    for batch in source.batches(columns):
        _check_batch(batch, [id_column, TEXT], source, len(ids))
        ids += map(label_text, batch[id_column])
        joined = list(_joined(batch))
        empty += sum(not text for (text,) in joined)
        texts += [] if stream else joined
    if not ids:
        raise DataError(f"{source.where} has no rows", "a collection has one object with _id and text per line")
    _refuse_duplicates(ids, source)
    if empty:
        console.once(f"{empty} of {len(ids)} texts of {source.where} are empty")
    return Collection(ids, _streamed(source, columns, len(ids)) if stream else texts, source.where)


def _columns(source: Source) -> tuple[str, list[str]]:
    """Return the column of ids, and all columns to read."""
    names = source.column_names([TEXT])
    if not names:
        raise DataError(f"{source.where} has no rows", "a collection has one object with _id and text per line")
    id_column = next((column for column in ID_COLUMNS if column in names), None)
    for column in (id_column or ID_COLUMNS[0], TEXT):
        if column not in names:
            raise DataError(
                f"{source.where} has no column '{column}'{did_you_mean(column, names)}; it has: {shorten(names)}",
                "a collection has one object with _id, text and, if you like, title per line",
            )
    read_as_json = isinstance(source, FileSource) and file_format(source.paths[0]) == "json"  # a row may have any keys
    titles = [TITLE] if TITLE in names or read_as_json else []
    return id_column or ID_COLUMNS[0], [id_column or ID_COLUMNS[0], TEXT, *titles]


def _check_batch(batch: ColumnBatch, columns: Sequence[str], source: Source, before: int) -> None:
    """Refuse rows without an id or a text; `before` rows came before the batch."""
    for column in columns:
        for row, cell in enumerate(batch[column]):
            if is_missing(cell) or is_nested(cell):
                fault = "has no" if is_missing(cell) else "has a list as"
                raise DataError(f"{place_of_row(source, before + row)} {fault} '{column}'", "each row needs an id and a text")


def _joined(batch: ColumnBatch) -> Iterator[Texts]:
    """Yield the text of each row, preceded by its title if it has one."""
    titles = batch.get(TITLE) or [""] * len(batch[TEXT])
    for title, text in zip(titles, batch[TEXT], strict=True):
        yield (str(text).strip() if is_missing(title) else f"{title} {text}".strip(),)


def _refuse_duplicates(ids: list[str], source: Source) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if name in seen:
            here, there = place_of_row(source, row), place_of_row(source, seen[name])
            raise DataError(f"{here} has the id {name!r} again, as {there}", "give every text an id of its own")
        seen[name] = row


def _streamed(source: Source, columns: list[str], count: int) -> StreamedTexts:
    def read() -> Iterator[Texts]:
        for batch in source.batches(columns):
            yield from _joined(batch)

    return StreamedTexts(read, np.arange(count))
