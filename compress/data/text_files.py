"""Open text files: encoding by byte order mark, gzip, and bounds on lines and on what a file unpacks to."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from compress.core.errors import DataError

MAX_LINE = 256 << 20  # characters
MAX_RATIO = 64  # of unpacked to packed bytes; text has 3 to 20
FREE_BYTES = 256 << 20  # that any file may unpack to
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class _BoundedUnpacker(io.RawIOBase):
    """The contents of a gzip file, up to `MAX_RATIO` times its size.

    Raises (on reading):
        DataError: it unpacks to more.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stream, self._count = path, gzip.open(path), 0  # noqa: SIM115 (closed by `close`)
        self._limit = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        chunk = self._stream.read(len(buffer))
        self._count += len(chunk)
        if self._count > self._limit:
            raise DataError(
                f"{self._path} unpacks to more than {self._limit >> 20} MB, {MAX_RATIO} times its size: it is damaged or a bomb",
                "if it is meant, unpack it with gunzip and give the unpacked file",
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file, plain or `.gz`, as UTF-8 or by its byte order mark; line ends are kept as they are."""
    raw = io.BufferedReader(_BoundedUnpacker(path)) if path.suffix.lower() == ".gz" else path.open("rb")
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
