"""Read Parquet, CSV, TSV, JSON and CoNLL files in batches of rows, without a copy on disk.

Nothing is guessed: in CSV and TSV every cell is text (`delimited`), Parquet has its schema and is read through `datasets`, JSON is
parsed as it is (`json_files`), and a CoNLL file has a list of tokens and a list of tags per sentence (`conll`).
"""

from __future__ import annotations

import glob
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core.errors import DataError, ResourceError, did_you_mean
from compress.core.scratch import folder as scratch_folder
from compress.data import conll, delimited
from compress.data.json_files import json_rows
from compress.data.text_files import FREE_BYTES, not_text

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

BATCH_ROWS = 10_000
FORMATS = {
    **{".parquet": "parquet", ".csv": "csv", ".tsv": "tsv"},
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".conll", ".conllu", ".conllx", ".bio", ".iob", ".iob2", ".txt"), "conll"),
}
SEPARATORS = {"csv": ",", "tsv": "\t"}
GZIP_RATIO = 4  # of text, roughly
MAX_PARQUET_RATIO = 1000  # of claimed to stored bytes, and of rows to stored bytes
MAX_FREE_ROWS = 10_000_000  # that any Parquet file may claim
ColumnBatch = dict[str, list[object]]  # column -> values; all columns have the same length


def existing_file(path: str) -> Path:
    """Return the path of a file.

    Raises:
        DataError: there is no such file; the message suggests the nearest name in its folder.
    """
    file = Path(path)
    if not file.is_file():
        siblings = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise DataError(f"there is no file {path}{did_you_mean(file.name, siblings)}")
    return file


def file_format(path: Path) -> str:
    """Return `parquet`, `csv`, `tsv`, `json` or `conll` by the file's ending; all may be followed by `.gz`, except Parquet.

    Raises:
        DataError: another ending.
    """
    packed = path.suffix.lower() == ".gz"
    known = FORMATS.get(Path(path.stem).suffix.lower() if packed else path.suffix.lower())
    if known is None or (packed and known == "parquet"):
        raise DataError(f"{path}: unknown kind of file", "use .parquet, .csv, .tsv, .jsonl, .json or .conll")
    return known


def uncompressed_size(path: Path) -> int:
    """Return the size of a file's contents in bytes, roughly."""
    if file_format(path) == "parquet":
        import pyarrow.parquet as pq

        with _as_data_errors(path):
            metadata = pq.read_metadata(path)
            size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        largest = MAX_PARQUET_RATIO * path.stat().st_size
        if size > max(FREE_BYTES, largest) or metadata.num_rows > max(MAX_FREE_ROWS, largest):
            raise DataError(
                f"{path} claims {metadata.num_rows:,} rows and {size:,} bytes, too much for a file of {path.stat().st_size:,} bytes",
                "it is damaged or a bomb: write it again, or give the rows as JSON lines",
            )
        return size
    return path.stat().st_size * (GZIP_RATIO if path.suffix.lower() == ".gz" else 1)


def column_names(path: Path, expected: Sequence[str] = ()) -> list[str]:
    """Return the names of a table's columns; of JSON lines those seen until all of `expected` were.

    Raises:
        DataError: an unknown ending, or contents that do not fit it.
    """
    kind = file_format(path)
    with _as_data_errors(path):
        if kind == "parquet":
            import pyarrow.parquet as pq

            return pq.read_schema(path).names
        if kind == "json":
            seen: dict[str, None] = {}
            for row in json_rows(path):
                seen |= dict.fromkeys(row)
                if expected and set(expected) <= set(seen):
                    break
            return list(seen)
        if kind == "conll":
            return list(conll.column_numbers(path))
        return delimited.header(path, SEPARATORS[kind])


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[ColumnBatch]:
    """Yield the rows of a table in order, `BATCH_ROWS` or fewer at a time; missing values are None or NaN.

    Args:
        path: of the file.
        columns: to read; they exist.

    Raises:
        DataError: contents that do not fit the file's ending.
    """
    kind = file_format(path)
    with _as_data_errors(path):
        if kind == "json":
            yield from _batches(([row.get(column) for column in columns] for row in json_rows(path)), columns)
        elif kind == "conll":
            numbers = [conll.column_numbers(path)[column] for column in columns]
            yield from _batches(([sentence[number] for number in numbers] for sentence in conll.conll_rows(path)), columns)
        elif kind == "parquet":
            yield from _parquet_batches(path, columns)
        else:
            names = delimited.header(path, SEPARATORS[kind])
            numbers = [names.index(column) for column in columns]
            yield from _batches(([row[number] for number in numbers] for row in delimited.rows(path, SEPARATORS[kind])), columns)


def _parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[ColumnBatch]:
    """Yield the rows of a Parquet file.

    Raises:
        DataError: its pages hold fewer or more rows than its footer says.
    """
    import pyarrow.parquet as pq
    from pyarrow.dataset import ParquetFragmentScanOptions

    features = storage_features(pq.read_schema(path), columns)
    unbuffered = ParquetFragmentScanOptions(pre_buffer=False)  # otherwise everything read stays in memory until the end of the file
    options = {"columns": list(columns), "batch_size": BATCH_ROWS, "fragment_scan_options": unbuffered}
    expected, count = pq.read_metadata(path).num_rows, 0
    for table in _stream("parquet", path, features, **options):
        count += table.num_rows
        yield as_batch(table)
    if count != expected:
        raise DataError(f"{path} is damaged: its footer says {expected} rows, and its pages hold {count}", "write the file again")


def _batches(rows: Iterator[Sequence[object]], columns: Sequence[str]) -> Iterator[ColumnBatch]:
    """Turn rows of values into batches."""
    while block := list(islice(rows, BATCH_ROWS)):
        yield {column: list(values) for column, values in zip(columns, zip(*block, strict=True), strict=True)}


def as_batch(table: pa.Table) -> ColumnBatch:
    """Turn an Arrow table into lists of values: text as str, lists as arrays, numbers as Python numbers."""
    import pyarrow as pa

    def values(column: pa.ChunkedArray) -> list[object]:
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        return column.to_pylist() if text else column.to_pandas().tolist()

    return {name: values(table[name]) for name in table.column_names}


def class_label_names(feature: object) -> list[str]:
    """Return the names of a `ClassLabel`, or of the one inside a list; an empty list for any other feature."""
    from datasets import ClassLabel

    while feature is not None and not isinstance(feature, ClassLabel):
        feature = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    return [str(name) for name in feature.names or []] if isinstance(feature, ClassLabel) else []


def recorded_class_names(path: Path, column: str) -> list[str]:
    """Return the class names that a Parquet file written by `datasets` records for a column, or an empty list."""
    if file_format(path) != "parquet":
        return []
    import pyarrow.parquet as pq
    from datasets import Features

    try:
        schema = pq.read_schema(path)
        return class_label_names(Features.from_arrow_schema(schema).get(column))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        return []  # no metadata, or another writer's


def storage_features(schema: pa.Schema, columns: Sequence[str]) -> Features:
    """Return the features of some columns as they are stored: class numbers stay numbers, dictionaries become their values."""
    import pyarrow as pa
    from datasets import Features

    def stored(field: pa.Field) -> pa.Field:
        return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field

    return Features.from_arrow_schema(pa.schema([stored(schema.field(column)) for column in dict.fromkeys(columns)]))


def _stream(builder: str, path: Path, features: Features, **options: Any) -> Iterator[pa.Table]:
    """Read a file with a builder of `datasets` as a stream of Arrow tables: no copy is written, no network is used."""
    from datasets import load_dataset

    with scratch_folder() as locks, _QUIET:
        stream = load_dataset(
            builder, data_files={"train": [glob.escape(str(path.absolute()))]}, split="train", streaming=True, cache_dir=str(locks),
            features=features, **options,
        )  # fmt: skip
        yield from stream.with_format("arrow").iter(batch_size=BATCH_ROWS)


class _Quiet:
    """Keeps `datasets` from logging and from sending requests while files are read.

    Several files may be open at once, and one that is not read to its end closes late: the settings are restored when the last one closes.
    """

    def __init__(self) -> None:
        self._lock, self._readers, self._before = threading.Lock(), 0, (True, 0)

    def __enter__(self) -> None:
        from datasets import config
        from datasets.utils import logging

        with self._lock:
            if not self._readers:
                self._before = (config.HF_UPDATE_DOWNLOAD_COUNTS, logging.get_verbosity())
                config.HF_UPDATE_DOWNLOAD_COUNTS = False  # otherwise every call sends a request
                logging.set_verbosity(logging.CRITICAL)  # a failure is reported once, as a DataError
            self._readers += 1

    def __exit__(self, *error: object) -> None:
        from datasets import config
        from datasets.utils import logging

        with self._lock:
            self._readers -= 1
            if not self._readers:
                config.HF_UPDATE_DOWNLOAD_COUNTS, level = self._before
                logging.set_verbosity(level)


_QUIET = _Quiet()


@contextmanager
def _as_data_errors(path: Path) -> Iterator[None]:
    """Turn what readers raise into a DataError with the path and one line."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    try:
        yield
    except MemoryError as error:  # Arrow's too
        raise ResourceError(
            f"{path} does not fit in memory: {(str(error).splitlines() or ['no reason given'])[0]}",
            "if the file is not damaged, split its rows into several files",
        ) from error
    except UnicodeDecodeError as error:
        raise not_text(path) from error
    except (ValueError, TypeError, OSError, EOFError, zlib.error, pa.ArrowException, DatasetsError) as error:
        raise DataError(f"{path} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
