"""Token ids on disk, memory-mapped: for data sets whose tokens do not fit into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from typing import IO, overload

import numpy as np

from compress.core.caches import writable_root
from compress.core.disk import check_space


class TokenRows(Sequence[np.ndarray]):
    """Rows of different lengths in one array: row i is `values[starts[i] : starts[i + 1]]`, returned as int64."""

    def __init__(self, values: np.ndarray, lengths: np.ndarray) -> None:
        self.values, self.lengths = values, lengths
        self.starts = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = index % len(self)
        return self.values[self.starts[row] : self.starts[row + 1]].astype(np.int64)


class TokenWriter:
    """Collects rows of token ids in a temporary file below the cache folder; it has no name, so that it vanishes with the process.

    Args:
        dtype: of a token on disk.
        expected: bytes, roughly.

    Raises:
        ResourceError: the disk has less than `expected` bytes free.
    """

    def __init__(self, dtype: type[np.generic], expected: int) -> None:
        folder = writable_root()
        check_space(folder, expected, "set COMPRESS_CACHE to a folder on another disk")
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (the memory map keeps it)
        self._dtype = np.dtype(dtype)
        self._lengths: list[np.ndarray] = []

    def write(self, rows: Iterable[Sequence[int]]) -> None:
        """Append rows."""
        arrays = [np.array(row, dtype=self._dtype) for row in rows]
        self._lengths.append(np.array([len(array) for array in arrays], dtype=np.int64))
        self._file.write(np.concatenate(arrays).tobytes())

    def finish(self) -> TokenRows:
        """Return the rows, memory-mapped."""
        self._file.flush()
        lengths = np.concatenate(self._lengths)
        return TokenRows(np.memmap(self._file, self._dtype, "r", shape=(int(lengths.sum()),)), lengths)
