"""Open text files: encoding by byte order mark, gzip, limits on line length and unpacked size."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from compress.core.errors import DataError

MAX_LINE = 256 << 20  # characters
MAX_RATIO = 64  # of unpacked to packed bytes; text has 3 to 20
FREE_BYTES = 256 << 20  # any file may unpack to this size
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@lru_cache(maxsize=256)
def _check_unpacked(path: Path, _time: int, size: int, free: int) -> None:
    """Check the unpacked size of a gzip file; the contents are discarded.

    Raises:
        DataError: it unpacks to more than `MAX_RATIO` times its size.
    """
    limit, count = max(free, MAX_RATIO * size), 0
    with gzip.open(path) as stream:
        while chunk := stream.read(1 << 20):
            count += len(chunk)
            if count > limit:
                raise DataError(
                    f"{path} unpacks to more than {limit >> 20} MB, {MAX_RATIO} times its size: it is damaged or a bomb",
                    "if this size is right, unpack it with gunzip and pass the unpacked file",
                )


def _opened(path: Path) -> io.BufferedReader:
    """Open the bytes of a file, unpacked."""
    if path.suffix.lower() != ".gz":
        return path.open("rb")
    state = path.stat()
    _check_unpacked(path, state.st_mtime_ns, state.st_size, FREE_BYTES)
    return io.BufferedReader(gzip.open(path))


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, plain or `.gz`, as UTF-8 or by its byte order mark; line ends are kept as they are."""
    with _opened(path) as raw:
        encoding = "utf-16" if raw.peek(2)[:2] in UTF16_MARKS else "utf-8-sig"
        with io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
            yield text


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their ends.

    Raises:
        DataError: a line of more than `MAX_LINE` characters.
    """
    with open_text(path) as text:
        number = 0
        while line := text.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise DataError(
                    f"line {number} of {path} has more than {MAX_LINE >> 20} million characters",
                    "is the format right? a table has one row a line; split long texts into rows",
                )
            yield line


def _undecodable_line(path: Path) -> int:
    """Return the number of the first line of a file that is not UTF-8; 1 for a UTF-16 file."""
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    with _opened(path) as raw:
        try:
            while chunk := raw.read(1 << 20):
                line += decoder.decode(chunk).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
    return line


def not_text(path: Path) -> DataError:
    """Return the error for a file that is not UTF-8; it names the line."""
    return DataError(f"line {_undecodable_line(path)} of {path} is not UTF-8 text", "save it as UTF-8")
