"""Atomic files and folders: after a failure or a kill, each is complete or absent."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.core.errors import ResourceError

Document = dict[str, Any]  # a JSON object


def read_json(path: Path, limit: int = 64 << 20) -> Any:
    """Read a JSON file of at most `limit` bytes.

    Raises:
        ValueError: not JSON, not UTF-8, or larger than `limit`.
        OSError: cannot be read.
    """
    if path.stat().st_size > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, document: object) -> None:
    """Write a JSON file atomically (temporary sibling, fsync, rename)."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (temporary sibling, fsync, rename)."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files need not be UTF-8


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary sibling of `path` to write; on success sync it and rename it into place."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        _sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling of `target`; on success sync it and rename it into place.

    On any exception the temporary folder is removed and `target` is left as it was. What a killed process
    left behind is removed by the next call, which is safe because the caller holds the lock of the folder.
    """
    target = followed(target)
    make_parent(target)
    remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        yield temporary
        _sync_tree(temporary)
        if target.exists():
            old = target.with_name(f".{target.name}.old-{os.getpid()}")
            target.rename(old)
            try:
                temporary.rename(target)
            except OSError:
                old.rename(target)
                raise
            shutil.rmtree(old)
        else:
            temporary.rename(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def followed(target: Path) -> Path:
    """Return where a folder is to be written: a symbolic link is followed, so that a folder that was moved to another disk stays there.

    Raises:
        ResourceError: the link leads nowhere.
    """
    if not target.is_symlink():
        return target
    if not target.exists():
        raise ResourceError(f"{target} is a symbolic link to {target.readlink()}, which is missing", "mount its disk, or remove the link")
    return target.resolve()


def make_parent(target: Path) -> None:
    """Create the parent of `target`.

    Raises:
        ResourceError: the parent cannot be created or written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"cannot create the folder {target.parent}: {error.strerror}") from error
    if not os.access(target.parent, os.W_OK):
        raise ResourceError(f"the folder {target.parent} is not writable", "choose another folder with -o")


def remove_leftovers(target: Path) -> None:
    """Clean up after a killed process: remove unfinished siblings, and restore a folder that was being replaced."""
    name = glob.escape(target.name)
    for old in target.parent.glob(f".{name}.old-*"):
        if old.is_symlink():
            old.unlink() if target.exists() else old.rename(target)
        elif target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
    for leftover in target.parent.glob(f".{name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder whose lock the caller holds."""
    for leftover in folder.glob(".*.tmp-*"):
        if not leftover.is_dir():
            leftover.unlink(missing_ok=True)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _sync_file(path)
    _sync_folder(folder)


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
