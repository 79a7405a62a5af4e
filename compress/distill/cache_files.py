"""What is computed once and kept on disk: a folder an entry, below a budget for all entries of a kind together.

An entry is a folder named by its key, written whole or not at all, read only if every file has the digest that its manifest
records. The entries not used for longest go first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.core import artifacts, console, disk, files, locks
from compress.core.errors import Locked, ResourceError

BUDGET_BYTES = 4 << 30  # of all entries of a kind together


@contextmanager
def stored(folder: Path, needed: int, compute: Callable[[Path], dict[str, Any]], what: str) -> Iterator[Path]:
    """Lock an entry, make it if it is not there whole, and hold it while it is read.

    Args:
        folder: of the entry, named by its key, beside those of its kind.
        needed: bytes that it takes, about.
        compute: writes the entry's files into the folder it is given and returns what the manifest says of them.
        what: the entry in words, plural.

    Raises:
        ResourceError: the disk is full, or cannot be written.
    """
    with locks.locked(folder, wait=True):
        if _whole(folder):
            console.info(f"  {what}: from the cache")
        else:
            make_room(folder, needed)
            disk.check_space(folder, needed, "set COMPRESS_CACHE to a folder on another disk")
            _write(folder, compute, what)
        os.utime(folder / artifacts.MANIFEST)  # used now
        yield folder


def is_stored(folder: Path) -> bool:
    """Tell whether an entry was written; whether it is still whole `stored` looks."""
    return (folder / artifacts.MANIFEST).is_file()


def make_room(folder: Path, needed: int) -> None:
    """Remove the entries not used for longest until `needed` bytes more are within the budget, and what killed runs left.

    Entries that another process holds stay. An entry loses its manifest first, so that half of one is never read; a process
    that has it mapped keeps what it mapped.

    Args:
        folder: the entry to be written, whose lock the caller holds.
        needed: bytes.
    """
    others = {path.name.removeprefix(".").partition(".")[0] for path in folder.parent.iterdir()} - {folder.name}
    entries = [folder.parent / name for name in others if name]
    used = {entry: manifest.stat().st_mtime for entry in entries if (manifest := entry / artifacts.MANIFEST).is_file()}
    total = sum(_size(entry) for entry in entries)
    for entry in sorted(entries, key=lambda entry: used.get(entry, 0.0)):  # what has no manifest first
        if entry in used and total + needed <= BUDGET_BYTES:
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
    except OSError:  # gone meanwhile, or never there: what a killed process left has another name
        return 0


def _whole(folder: Path) -> bool:
    """Tell whether an entry is there, under its own key, with every file as it was written."""
    manifest = artifacts.read_manifest(folder)
    return manifest is not None and manifest.get("key") == folder.name and manifest.get("files") == artifacts.digest_files(folder)


def _write(folder: Path, compute: Callable[[Path], dict[str, Any]], what: str) -> None:
    """Compute an entry into a temporary folder, its manifest last, and rename it into place."""
    try:
        with files.atomic_folder(folder) as temporary:
            described = compute(temporary)
            files.write_json(temporary / artifacts.MANIFEST, {**described, "key": folder.name, "files": artifacts.digest_files(temporary)})
    except OSError as error:
        raise ResourceError(
            f"the {what} cannot be cached in {folder.parent}: {error.strerror or error}",
            "free some space there, or set COMPRESS_CACHE to a folder on another disk",
        ) from error
