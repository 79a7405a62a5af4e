"""Where the rows of a split come from: files, a `datasets.Dataset`, or rows in memory. All are read in batches of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from compress.core import digests
from compress.core.errors import DataError
from compress.data import tables
from compress.data.tables import BATCH_ROWS, ColumnBatch, class_label_names

if TYPE_CHECKING:
    from datasets import Dataset


class Source(Protocol):
    """The rows of one split."""

    @property
    def where(self) -> str:
        """What messages call it: paths, or what the object is."""
        ...

    def size(self) -> int:
        """Return how many bytes the rows take in memory, roughly."""
        ...

    def column_names(self, expected: Sequence[str]) -> list[str]:
        """Return the names of the columns; a reader that must look at rows stops when all of `expected` were seen."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[ColumnBatch]:
        """Yield the rows in order, some thousands at a time."""
        ...

    def class_names(self, column: str) -> list[str]:
        """Return the names of the classes that are recorded for a column (`ClassLabel`), or an empty list."""
        ...

    def digest(self, columns: Sequence[str]) -> object:
        """Return a JSON document that changes with the contents."""
        ...


@dataclass(frozen=True)
class FileSource:
    """Files of one format, read one after another."""

    paths: tuple[Path, ...]

    @property
    def where(self) -> str:
        """The path, or the first one and how many there are."""
        return str(self.paths[0]) + (f" and {len(self.paths) - 1} more files" if len(self.paths) > 1 else "")

    def size(self) -> int:
        """Return the size of the files, uncompressed."""
        return sum(tables.uncompressed_size(path) for path in self.paths)

    def column_names(self, expected: Sequence[str]) -> list[str]:
        """Return the columns of the first file.

        Raises:
            DataError: another file lacks one of `expected`.
        """
        names = tables.column_names(self.paths[0], expected)
        for path in self.paths[1:]:
            lacking = [column for column in expected if column in names and column not in tables.column_names(path, expected)]
            if lacking:
                raise DataError(f"{path} has no column '{lacking[0]}', and {self.paths[0]} has", "give shards with the same columns")
        return names

    def batches(self, columns: Sequence[str]) -> Iterator[ColumnBatch]:
        """Yield the rows of all files."""
        for path in self.paths:
            yield from tables.read_batches(path, columns)

    def class_names(self, column: str) -> list[str]:
        """Return the class names that a Parquet file written by `datasets` records."""
        return tables.recorded_class_names(self.paths[0], column)

    def digest(self, columns: Sequence[str]) -> list[str]:
        """Return the SHA-256 of every file."""
        return [digests.digest_file(path) for path in self.paths]


@dataclass(frozen=True)
class DatasetSource:
    """A `datasets.Dataset`: in memory, or memory-mapped from Arrow files."""

    dataset: Dataset
    split: str

    @property
    def where(self) -> str:
        """Dataset and split."""
        return f"the Dataset of the {self.split} split"

    def size(self) -> int:
        """Return the size of the Arrow table, in proportion where only some of its rows are selected."""
        table = self.dataset.data
        return round(table.nbytes * len(self.dataset) / max(1, table.num_rows))

    def column_names(self, expected: Sequence[str]) -> list[str]:
        """Return the columns."""
        return self.dataset.column_names

    def batches(self, columns: Sequence[str]) -> Iterator[ColumnBatch]:
        """Yield the rows as they are stored.

        Raises:
            DataError: the data set has a transform that only applies on access.
        """
        if self.dataset.format["type"] == "custom":
            raise DataError(f"{self.where} has a transform that applies on access", "apply it with dataset.map(...) instead")
        rows = self.dataset.select_columns(list(columns)).with_format("arrow")
        for table in rows.iter(batch_size=BATCH_ROWS):
            yield tables.as_batch(table)

    def class_names(self, column: str) -> list[str]:
        """Return the names of a `ClassLabel` column."""
        return class_label_names(self.dataset.features.get(column))

    def digest(self, columns: Sequence[str]) -> dict[str, object]:
        """Return class names and the SHA-256 of the Arrow contents of `columns`.

        `Dataset._fingerprint` is of no use: it is drawn at random where a transform cannot be hashed. Rows are copied
        into arrays of their own first, because a slice of an Arrow array keeps the layout of the whole.
        """
        import pyarrow as pa

        present = [column for column in columns if column in self.dataset.column_names]
        state = hashlib.sha256()
        for batch in self.dataset.select_columns(present).with_format("arrow").iter(batch_size=BATCH_ROWS):
            table = cast("pa.Table", batch)
            compact = pa.table({name: pa.array(table[name].to_pylist(), table.schema.field(name).type) for name in present})
            for record_batch in compact.to_batches():
                state.update(record_batch.serialize())
        return {"arrow": state.hexdigest(), "classes": {name: names for name in present if (names := self.class_names(name))}}


@dataclass(frozen=True)
class RowSource:
    """Rows in memory."""

    rows: Sequence[dict[str, str]]
    where: str

    def size(self) -> int:
        """Return 0: the rows are in memory already."""
        return 0

    def column_names(self, expected: Sequence[str]) -> list[str]:
        """Return the keys of the rows."""
        return list(self.rows[0]) if self.rows else []

    def batches(self, columns: Sequence[str]) -> Iterator[ColumnBatch]:
        """Yield all rows at once."""
        yield {column: [row[column] for row in self.rows] for column in columns}

    def class_names(self, column: str) -> list[str]:
        """Return an empty list: rows record no class names."""
        return []

    def digest(self, columns: Sequence[str]) -> object:
        """Return the rows."""
        return list(self.rows)
