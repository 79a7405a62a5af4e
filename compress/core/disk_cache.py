"""A cache on disk: one folder per entry, with a size limit for all entries of a kind together.

An entry's folder is named by its key, is written atomically, and is read only if every file has the digest in its manifest. The
least recently used entries are removed first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.core import artifacts, console, disk, files, locks
from compress.core.errors import Locked, ResourceError
from compress.core.system_errors import HINTS, resource_errno

LIMIT_BYTES = 4 << 30  # of all entries of a kind together


@contextmanager
def cached_folder(folder: Path, needed: int, compute: Callable[[Path], dict[str, object]], what: str) -> Iterator[Path]:
    """Lock an entry, compute it if it is missing or damaged, and hold the lock while it is read.

    Args:
        folder: of the entry, named by its key, next to the other entries of its kind.
        needed: its size in bytes, roughly.
        compute: writes the entry's files into the folder that it gets, and returns what its manifest says about them.
        what: the entry's name in messages, in the plural.

    Raises:
        ResourceError: the disk is full or not writable.
    """
    with locks.locked(folder, wait=True):
        if _is_complete(folder):
            console.info(f"  {what}: from the cache")
        else:
            make_room(folder, needed)
            disk.check_space(folder, needed, "set COMPRESS_CACHE to a folder on another disk")
            _write(folder, compute, what)
        os.utime(folder / artifacts.MANIFEST)  # the time of the last use
        yield folder


def is_cached(folder: Path) -> bool:
    """Return whether an entry was written; `cached_folder` checks whether it is still complete."""
    return (folder / artifacts.MANIFEST).is_file()


def make_room(folder: Path, needed: int) -> None:
    """Remove remains of killed runs, and the least recently used entries until `needed` more bytes are within the limit.

    Entries locked by another process stay. An entry loses its manifest first, so that a partly removed one is never read; a process
    that has its files memory-mapped keeps them.

    Args:
        folder: the entry to be written, locked by the caller.
        needed: its size in bytes.
    """
    others = {path.name.removeprefix(".").partition(".")[0] for path in folder.parent.iterdir()} - {folder.name}
    entries = [folder.parent / name for name in others if name]
    last_used = {entry: manifest.stat().st_mtime for entry in entries if (manifest := entry / artifacts.MANIFEST).is_file()}
    total = sum(_size(entry) for entry in entries)
    for entry in sorted(entries, key=lambda entry: last_used.get(entry, 0.0)):  # those without a manifest first
        if entry in last_used and total + needed <= LIMIT_BYTES:
            return
        try:
            with locks.locked(entry):
                files.remove_leftovers(entry)
                total -= _size(entry)
                (entry / artifacts.MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(entry, ignore_errors=True)
        except Locked:
            continue


def _size(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:  # removed meanwhile, or only temporary files of a killed process exist
        return 0


def _is_complete(folder: Path) -> bool:
    """Return whether an entry exists under its own key with every file as it was written."""
    manifest = artifacts.read_manifest(folder)
    return manifest is not None and manifest.get("key") == folder.name and manifest.get("files") == artifacts.digest_files(folder)


def _write(folder: Path, compute: Callable[[Path], dict[str, object]], what: str) -> None:
    """Compute an entry into a temporary folder, write its manifest last, and rename the folder into place."""
    try:
        with files.atomic_folder(folder) as temporary:
            description = compute(temporary)
            files.write_json(
                temporary / artifacts.MANIFEST, {**description, "key": folder.name, "files": artifacts.digest_files(temporary)}
            )
    except OSError as error:
        raise ResourceError(
            f"the {what} cannot be cached in {folder.parent}: {error.strerror or error}",
            HINTS.get(resource_errno(error) or 0, "set COMPRESS_CACHE to a folder that can be written"),
        ) from error
