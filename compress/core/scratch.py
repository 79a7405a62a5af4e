"""Temporary files: one folder per process, which a later process removes if this one is killed.

The folder lies in `$TMPDIR` and holds a locked file. The kernel frees the lock when the process ends, however it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "compress-tmp-"
LOCK = ".lock"
OLD_SECONDS = 60.0  # a folder without its lock after this time has no owner


@dataclass
class _State:
    folder: Path | None = None
    lock: int = -1
    owner: int = 0  # process id: a forked process has another


_state = _State()


def root() -> Path:
    """Return this process's folder for temporary files, created at the first call.

    Raises:
        OSError: `$TMPDIR` is full or not writable.
    """
    if _state.folder is None or _state.owner != os.getpid() or not _state.folder.is_dir():
        with _signals_wait():  # an interrupt would leave the folder, or the file with which tempfile looks for a base
            base = Path(tempfile.gettempdir())
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            try:
                lock = _locked_file(folder)
            except OSError:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            _state.folder, _state.lock, _state.owner = folder, lock, os.getpid()
            atexit.register(remove)
        remove_abandoned(base)
    return _state.folder


def _locked_file(folder: Path) -> int:
    """Create the lock of a folder; returns its descriptor.

    It is locked before it has its name: a process that finds the lock free takes the folder for abandoned and removes it.
    """
    unnamed = folder / f"{LOCK}.new"
    lock = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(folder / LOCK)
    except OSError:
        os.close(lock)
        raise
    return lock


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of a few lines."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield an empty temporary folder, and remove it.

    Raises:
        OSError: `$TMPDIR` is full or not writable.
    """
    created = Path(tempfile.mkdtemp(dir=root()))
    try:
        yield created
    finally:
        shutil.rmtree(created, ignore_errors=True)  # tempfile's own class never ends where nothing can be removed


def folder_of(owner: object) -> Path:
    """Create a temporary folder that is removed with its owner.

    Raises:
        OSError: `$TMPDIR` is full or not writable.
    """
    created = Path(tempfile.mkdtemp(dir=root()))
    weakref.finalize(owner, shutil.rmtree, created, ignore_errors=True)
    return created


def adopt() -> None:
    """Let the libraries of this process, and the processes that it starts, write their temporary files into its folder, too."""
    with contextlib.suppress(OSError):  # what needs a temporary file will say so
        tempfile.tempdir = os.environ["TMPDIR"] = str(root())


def remove() -> None:
    """Remove the folder of this process, if it has one."""
    if _state.folder is None or _state.owner != os.getpid():
        return
    taken = str(_state.folder)
    shutil.rmtree(_state.folder, ignore_errors=True)
    os.close(_state.lock)
    _state.folder = None
    if tempfile.tempdir == taken:
        tempfile.tempdir = os.environ["TMPDIR"] = str(Path(taken).parent)


def remove_abandoned(base: Path) -> None:
    """Remove what processes of this user that were killed have left in a folder for temporary files."""
    for path in base.glob(f"{PREFIX}*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:  # just created, or only partly removed
            _remove_if_old(path)
            continue
        except OSError:  # not readable: it stays
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:  # its process lives
            continue
        finally:
            os.close(lock)


def _remove_if_old(path: Path) -> None:
    with contextlib.suppress(OSError):  # another process removed it
        if time.time() - path.stat().st_mtime > OLD_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
