"""The user's cache: its folder, and measurements that are made once per machine."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from compress.core import console, locks, machine, scratch
from compress.core.digests import digest_json
from compress.core.errors import Locked, ResourceError
from compress.core.files import Document, read_json, write_json


def cache_root() -> Path:
    """Return the folder for what can be made again: `$COMPRESS_CACHE`, else `~/.cache/compress`."""
    explicit = os.environ.get("COMPRESS_CACHE")
    if explicit:
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "compress"
    except RuntimeError:  # a user without a home
        return scratch.root() / "cache"


def writable_root() -> Path:
    """Return the cache's folder if it can be written, else a temporary one, with one warning; creates it.

    Raises:
        OSError: the disk is full.
    """
    folder = cache_root()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        reason = "not writable"
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        reason = error.strerror
    console.warn_once(f"nothing is cached: {folder} cannot be used ({reason}); set COMPRESS_CACHE to another folder")
    return scratch.root()


def measured_once(kind: str, facts: Sequence[object], measure: Callable[[], Document]) -> tuple[Document, bool]:
    """Return a measurement from the cache, or measure now and store it.

    A file that is missing, incomplete, edited, damaged or not writable only costs a new measurement. While another process measures the
    same, we wait: both must get the same result, and two measurements at a time would disturb each other.

    Args:
        kind: of measurement, the name of its folder in the cache.
        facts: JSON values that determine the result, besides this machine and the versions of the libraries. Include a version
            number that changes whenever `measure` does.
        measure: does the work; its result is a JSON object.

    Returns:
        The measurement, and whether it came from the cache.
    """
    known = [*facts, machine.identity(), machine.versions()]
    path = cache_root() / kind / f"{digest_json(known)}.json"
    stored = _read_measurement(path)
    if stored is not None:
        _drop_abandoned_lock(kind, path.name)
        return stored, True
    with _lock(kind, path.name):
        stored = _read_measurement(path)
        if stored is not None:
            return stored, True
        for unfinished in path.parent.glob(f".{path.name}.tmp-*"):  # its writer was killed
            with contextlib.suppress(OSError):  # it does no harm
                unfinished.unlink()
        measured = measure()
        try:
            path = writable_root() / kind / path.name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"measured": measured, "digest": _digest(measured), "facts": known})
        except OSError as error:
            console.warn(f"the measurement could not be cached in {path.parent}: {error.strerror}")
    return measured, False


@contextlib.contextmanager
def _lock(kind: str, name: str) -> Iterator[None]:
    """Hold the lock of a measurement; nothing is locked if the cache cannot be written."""
    try:
        folder = writable_root()
    except OSError:
        yield
        return
    with locks.locked(folder / f"{kind}-{name}", wait=True):
        yield


def _drop_abandoned_lock(kind: str, name: str) -> None:
    """Remove the file of a measurement's lock if a process that ended has left it."""
    target = cache_root() / f"{kind}-{name}"
    if target.with_name(f".{target.name}.lock").exists():
        with contextlib.suppress(OSError, Locked, ResourceError), locks.locked(target):
            pass


def _read_measurement(path: Path) -> Document | None:
    """Return a stored measurement; None if the file is missing or damaged."""
    try:
        document = read_json(path)
    except (OSError, ValueError, RecursionError):
        return None
    measured = document.get("measured") if isinstance(document, dict) else None
    return measured if isinstance(measured, dict) and document.get("digest") == _digest(measured) else None


def _digest(measured: Document) -> str:
    """Return the digest of a measurement as a file holds it: keys are strings there."""
    return digest_json(json.loads(json.dumps(measured, default=str)))
