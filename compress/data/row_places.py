"""Where a row of a source is written: file and line, for messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compress.data import delimited
from compress.data.json_files import is_document
from compress.data.sources import FileSource, Source
from compress.data.tables import SEPARATORS, file_format
from compress.data.text_files import lines_of


def place_of_row(source: Source, row: int) -> str:
    """Return where row number `row` (from 0) is: `line 3 of corpus.jsonl`, or `row 3 of …` where rows are no lines.

    The files are read again up to the row, so that reading them costs nothing extra.
    """
    if not isinstance(source, FileSource):
        return f"row {row + 1} of {source.where}"
    for path in source.paths:
        before = row
        for line in _row_lines(path):
            if row == 0:
                return f"{'row' if line is None else 'line'} {before + 1 if line is None else line} of {path}"
            row -= 1
    return source.where


def _row_lines(path: Path) -> Iterator[int | None]:
    """Yield the line number of each row, None where rows are no lines."""
    kind = file_format(path)
    if kind in SEPARATORS:
        yield from delimited.row_lines(path, SEPARATORS[kind])
    elif kind == "json" and not is_document(path):
        yield from (number for number, line in enumerate(lines_of(path), start=1) if line.strip())
    else:
        while True:
            yield None
