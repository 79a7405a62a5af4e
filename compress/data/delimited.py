"""Read CSV and TSV strictly: every row has the fields of the header, or the file is refused with the number of the line.

The dialect is decided once per file: the first of these that fits the whole file. Quotes around fields (doubled inside), quotes around
fields with backslashes before inner ones, and in TSV quotes as plain characters (as in GLUE's files).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from compress.core import console
from compress.core.errors import DataError
from compress.data.text_files import MAX_LINE, lines_of

_ESCAPED_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)\\"')


@dataclass(frozen=True)
class Dialect:
    """How a file separates and quotes its fields."""

    separator: str
    quoted: bool = True
    backslashes: bool = False  # before quotes inside quotes

    def reader(self, lines: Iterator[str]) -> Any:
        """Return a strict reader of lines."""
        csv.field_size_limit(MAX_LINE)
        if self.backslashes:
            lines = (_ESCAPED_QUOTE.sub(r'\1""', line) for line in lines)
        return csv.reader(lines, delimiter=self.separator, quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE, strict=True)


class _Misfit(Exception):
    """A line that does not fit a dialect."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


def _dialects(separator: str) -> list[Dialect]:
    plain = [Dialect(separator, quoted=False)] if separator == "\t" else []
    return [Dialect(separator), Dialect(separator, backslashes=True), *plain]


def header(path: Path, separator: str) -> list[str]:
    """Return the names of the columns; one without a name is `Unnamed: 2`, the second of two equal ones `name.1`.

    Raises:
        DataError: an empty file, or rows that fit no dialect.
    """
    return _names(next(_records(path, dialect_of(path, separator)))[1])


def rows(path: Path, separator: str) -> Iterator[list[str]]:
    """Yield the rows, each with a field per column.

    Raises:
        DataError: rows that fit no dialect.
    """
    records = _records(path, dialect_of(path, separator))
    _, first = next(records)
    for _, row in records:
        yield row + [""] * (len(first) - len(row)) if len(row) < len(first) else row[: len(first)]


def row_lines(path: Path, separator: str) -> Iterator[int]:
    """Yield the number of the last line of each row.

    Raises:
        DataError: rows that fit no dialect.
    """
    records = _records(path, dialect_of(path, separator))
    next(records)
    yield from (line for line, _ in records)


def dialect_of(path: Path, separator: str) -> Dialect:
    """Return the dialect of a file; the whole file is checked.

    Raises:
        DataError: no dialect fits; the message names the first wrong line.
    """
    state = path.stat()
    return _checked_dialect(path, separator, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _checked_dialect(path: Path, separator: str, _time: int, _size: int) -> Dialect:
    misfits: list[_Misfit] = []
    spread: dict[Dialect, int] = {}  # fitting dialects, with the number of rows that span several lines
    for dialect in _dialects(separator):
        try:
            columns, count = _check(path, dialect)
        except _Misfit as misfit:
            misfits.append(misfit)
            continue
        if count and separator == "\t" and columns > 1:
            spread[dialect] = count  # if quotes are plain characters, each line may be a row
            continue
        if not dialect.quoted:
            console.warn_once(f"quotes in {path} are read as plain characters: they do not enclose fields")
        return dialect
    for dialect, count in spread.items():
        console.warn_once(
            f"{count} rows of {path} hold line breaks between quotes: if quotes are plain characters there, save it as .jsonl"
        )
        return dialect
    raise DataError(f"line {misfits[0].line} of {path} {misfits[0].reason}", "correct the line, or save the table as JSON lines or Parquet")


def _check(path: Path, dialect: Dialect) -> tuple[int, int]:
    """Read a whole file and return its number of columns, and of rows that span several lines.

    Raises:
        _Misfit: a line does not fit.
        DataError: the file is empty.
    """
    records = _records(path, dialect)
    _, names = next(records, (0, []))
    if not names:
        raise DataError(f"{path} is empty")
    columns, spread = len(names), 0
    fewest = max((number + 1 for number, name in enumerate(names) if name.strip()), default=columns)
    for line, row in records:
        if len(row) < fewest or any(row[columns:]):
            more = f": {', '.join(row[columns:])[:60]!r} is too much" if len(row) > columns else ""
            raise _Misfit(line, f"has {len(row)} fields, and the header has {columns}{more}")
        spread += any("\n" in field or "\r" in field for field in row)
    return columns, spread


def _records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield the records that are not blank, with the number of their last line."""
    reader = dialect.reader(lines_of(path))
    try:
        for row in reader:
            if row and not (len(row) == 1 and row[0] and row[0].isspace()):
                yield reader.line_num, row
    except csv.Error as error:
        raise _Misfit(reader.line_num, f"has a quote that is not closed or not at the end of a field ({error})") from error


def _names(fields: list[str]) -> list[str]:
    names: list[str] = []
    for number, field in enumerate(fields):
        name, copies = field or f"Unnamed: {number}", 0
        unique = name
        while unique in names:
            copies += 1
            unique = f"{name}.{copies}"
        names.append(unique)
    return names
