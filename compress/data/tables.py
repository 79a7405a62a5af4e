"""Read Parquet, CSV, TSV and JSON lines through `datasets`, in batches of rows and without a copy on disk.

Nothing is guessed: in CSV and TSV every cell is text, Parquet has its schema, and a line of JSON is parsed as it is. (The JSON
reader of `datasets` infers a type per chunk and turns objects into text, so its reader of lines is used instead.)
"""

from __future__ import annotations

import glob
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.core import console
from compress.core.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

BATCH_ROWS = 10_000
FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
GZIP_RATIO = 4  # of text, roughly
Batch = dict[str, list[Any]]  # column -> values; all columns have the same length


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
    """Return `parquet`, `csv`, `tsv` or `jsonl` by the file's ending; all may be followed by `.gz`, except Parquet.

    Raises:
        DataError: another ending.
    """
    name = path.name.lower().removesuffix(".gz")
    for ending, known in (
        (".parquet", "parquet"),
        (".csv", "csv"),
        (".tsv", "tsv"),
        (".jsonl", "jsonl"),
        (".ndjson", "jsonl"),
        (".json", "jsonl"),
    ):
        if name.endswith(ending):
            return known
    raise DataError(f"{path}: unknown kind of file", "use .parquet, .csv, .tsv or .jsonl")


def uncompressed_size(path: Path) -> int:
    """Return the size of a file's contents in bytes, roughly."""
    if file_format(path) == "parquet":
        import pyarrow.parquet as pq

        with _as_data_errors(path):
            metadata = pq.read_metadata(path)
            return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
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
        if kind == "jsonl":
            seen: dict[str, None] = {}
            for rows in _json_rows(path):
                for row in rows:
                    seen |= dict.fromkeys(row)
                if set(expected) <= set(seen):
                    break
            return list(seen)
        import pandas as pd

        return [str(name) for name in pd.read_csv(path, nrows=0, **_csv_options(kind)).columns]


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[Batch]:
    """Yield the rows of a table in order, `BATCH_ROWS` or fewer at a time; a value that is missing is None or NaN.

    Args:
        path: of the file.
        columns: to read; they exist.

    Raises:
        DataError: contents that do not fit the file's ending.
    """
    kind = file_format(path)
    with _as_data_errors(path):
        if kind == "jsonl":
            for rows in _json_rows(path):
                yield {column: [row.get(column) for row in rows] for column in columns}
        elif kind == "parquet":
            import pyarrow.parquet as pq
            from pyarrow.dataset import ParquetFragmentScanOptions

            features = storage_features(pq.read_schema(path), columns)
            unbuffered = ParquetFragmentScanOptions(pre_buffer=False)  # else what was read stays in memory until the end of the file
            options = {"columns": list(columns), "batch_size": BATCH_ROWS, "fragment_scan_options": unbuffered}
            for table in _stream("parquet", path, features, **options):
                yield as_batch(table)
        else:
            joined = 0
            for table in _stream("csv", path, _text_features(column_names(path)), **_csv_options(kind)):
                joined += _rows_with_line_breaks(table) if kind == "tsv" else 0
                yield as_batch(table.select(list(columns)))
            if joined:
                console.warn(
                    f"{joined} rows of {path} hold line breaks between quotes: if quotes are plain characters there, save it as .jsonl"
                )


def as_batch(table: pa.Table) -> Batch:
    """Turn an Arrow table into lists of values: text as str, lists as arrays, numbers as Python numbers."""
    import pyarrow as pa

    def values(column: pa.ChunkedArray) -> list[Any]:
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
        return []  # another writer's metadata, or none


def storage_features(schema: pa.Schema, columns: Sequence[str]) -> Features:
    """Return the features of some columns as they are stored: class numbers stay numbers, dictionaries become their values."""
    import pyarrow as pa
    from datasets import Features

    def stored(field: pa.Field) -> pa.Field:
        return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field

    return Features.from_arrow_schema(pa.schema([stored(schema.field(column)) for column in dict.fromkeys(columns)]))


def _text_features(columns: Sequence[str]) -> Features:
    from datasets import Features, Value

    return Features(dict.fromkeys(columns, Value("string")))


def _csv_options(kind: str) -> dict[str, Any]:
    return {"sep": "\t" if kind == "tsv" else ",", "keep_default_na": False, "encoding": "utf-8-sig"}


def _rows_with_line_breaks(table: pa.Table) -> int:
    """Count the rows that quotes spread over lines: some writers mean a quote as a character, which would join rows silently."""
    return sum(any(cell and "\n" in cell for cell in row) for row in zip(*table.to_pydict().values(), strict=True))


def _json_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the objects of a JSON lines file; blank lines are skipped."""
    for table in _stream("text", path, _text_features(["text"])):
        rows = [json.loads(line) for line in table["text"].to_pylist() if line.strip()]
        for row in rows:
            if not isinstance(row, dict):
                raise ValueError(f"a line holds {json.dumps(row)[:60]}, and not a JSON object")
        yield rows


def _stream(builder: str, path: Path, features: Features, **options: Any) -> Iterator[pa.Table]:
    """Read a file with a builder of `datasets` as a stream of Arrow tables: no copy is written, no network is used."""
    from datasets import config, load_dataset
    from datasets.utils import logging

    counted, level = config.HF_UPDATE_DOWNLOAD_COUNTS, logging.get_verbosity()
    with tempfile.TemporaryDirectory() as locks:
        config.HF_UPDATE_DOWNLOAD_COUNTS = False  # else every call sends a request
        logging.set_verbosity(logging.CRITICAL)  # a failure is told once, as a DataError
        try:
            stream = load_dataset(
                builder, data_files={"train": [glob.escape(str(path.absolute()))]}, split="train", streaming=True, cache_dir=locks,
                features=features, **options,
            )  # fmt: skip
            yield from stream.with_format("arrow").iter(batch_size=BATCH_ROWS)
        finally:
            config.HF_UPDATE_DOWNLOAD_COUNTS = counted
            logging.set_verbosity(level)


@contextmanager
def _as_data_errors(path: Path) -> Iterator[None]:
    """Turn what readers raise into a DataError with the path and one line."""
    import pandas as pd
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    try:
        yield
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path} is empty") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text", "save it as UTF-8") from error
    except (ValueError, TypeError, OSError, pd.errors.ParserError, pa.ArrowException, DatasetsError) as error:
        raise DataError(f"{path} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
