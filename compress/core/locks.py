"""Kernel locks of output folders."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from compress.core.errors import Locked
from compress.core.files import make_parent

if TYPE_CHECKING:
    from filelock import FileLock

_held: set[Path] = set()


def any_held() -> bool:
    """Return whether this process holds the lock of an output folder."""
    return bool(_held)


@contextlib.contextmanager
def locked(target: Path, wait: bool = False) -> Iterator[None]:
    """Hold the kernel lock of an output folder (`.NAME.lock` next to it); the kernel frees it if we are killed.

    Raises:
        Locked: another process holds it (and `wait` is false); the message names the process.
    """
    import filelock

    make_parent(target)
    path = target.with_name(f".{target.name}.lock")
    lock = filelock.FileLock(path, blocking=wait)
    try:
        _acquire(lock, target, path)
        _held.add(path)
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:  # also if a signal came between the lock and the next line
        # Unlinking while we hold the lock is safe: filelock checks after locking that the inode is still the named one.
        try:
            if lock.is_locked:
                path.unlink(missing_ok=True)
        finally:
            _held.discard(path)
            lock.release()


def _acquire(lock: FileLock, target: Path, path: Path) -> None:
    import filelock

    try:
        lock.acquire()
    except filelock.Timeout:
        raise Locked(f"{target} is in use by {_holder(path)}", "wait for it to end, or choose another folder with -o") from None


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
