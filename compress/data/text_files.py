"""Open text files: encoding by byte order mark, gzip, and bounds on lines and on what a file unpacks to."""

from __future__ import annotations

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
FREE_BYTES = 256 << 20  # that any file may unpack to
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@lru_cache(maxsize=256)
def _check_unpacked(path: Path, _time: int, size: int, free: int) -> None:
    """Unpack a gzip file without keeping it.

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
                    "if it is meant, unpack it with gunzip and give the unpacked file",
                )


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, plain or `.gz`, as UTF-8 or by its byte order mark; line ends are kept as they are."""
    packed, state = path.suffix.lower() == ".gz", path.stat()
    if packed:
        _check_unpacked(path, state.st_mtime_ns, state.st_size, FREE_BYTES)
    raw = io.BufferedReader(gzip.open(path)) if packed else path.open("rb")  # noqa: SIM115
    with raw:
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
