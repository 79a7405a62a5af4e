"""Files that are whole or absent: atomic folders, digests, locks, free space."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.core.errors import Locked, ResourceError, UsageError

MANIFEST = "compress.json"  # written last into every artifact; a folder of ours without it is incomplete
CARD = "README.md"  # of a model: its owner edits it
RESERVE_BYTES = 64 << 20


def cache_root() -> Path:
    """Return the folder for what can be made again: `$COMPRESS_CACHE`, else `~/.cache/compress`."""
    explicit = os.environ.get("COMPRESS_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compress"


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data`, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_json(document: Any) -> str:
    """Return the SHA-256 of a JSON document in canonical form (sorted keys, no spaces)."""
    return digest_bytes(json.dumps(document, sort_keys=True, separators=(",", ":"), default=str).encode())


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's contents, read as a stream."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_files(folder: Path) -> dict[str, str]:
    """Map each file below `folder` to its SHA-256, names relative and sorted; not the manifest, the card and hidden files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    relative = [(path, path.relative_to(folder)) for path in files]
    return {
        name.as_posix(): digest_file(path)
        for path, name in relative
        if name.as_posix() not in (MANIFEST, CARD) and not any(part.startswith(".") for part in name.parts)
    }


def read_json(path: Path, limit: int = 64 << 20) -> Any:
    """Read a JSON file of at most `limit` bytes.

    Raises:
        ValueError: not JSON, not UTF-8, or larger than `limit`.
        OSError: cannot be read.
    """
    if path.stat().st_size > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of an artifact of ours, or None where there is none or it cannot be read."""
    try:
        document = read_json(folder / MANIFEST)
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file atomically (temporary sibling, fsync, rename)."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically (temporary sibling, fsync, rename)."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    left behind is removed on the next call, which is safe because the caller holds the folder's lock.
    """
    make_parent(target)
    remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    temporary.mkdir()
    try:
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
    """Clean up after a killed process: drop half-written siblings, and put back a folder caught in mid-rename."""
    name = glob.escape(target.name)
    for old in target.parent.glob(f".{name}.old-*"):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)
    for leftover in target.parent.glob(f".{name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


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


def resume_folder(target: Path, key: str) -> Path:
    """Return the folder beside `target` for what a killed run with this cache key goes on from; those of other keys are removed.

    It need not exist. The caller holds the lock of `target`, and removes the folder once `target` is there.
    """
    folder = target.with_name(f".{target.name}.resume-{key[:32]}")
    for other in target.parent.glob(f".{glob.escape(target.name)}.resume-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


@contextlib.contextmanager
def locked(target: Path, wait: bool = False) -> Iterator[None]:
    """Hold the kernel lock of an output folder (`.NAME.lock` beside it); the kernel frees it if we are killed.

    Raises:
        Locked: another process holds it (and `wait` is false); the message names the process.
    """
    import filelock

    make_parent(target)
    path = target.with_name(f".{target.name}.lock")
    lock = filelock.FileLock(path, blocking=wait)
    try:
        lock.acquire()
    except filelock.Timeout:
        holder = _holder(path)
        raise Locked(f"{target} is in use by {holder}", "wait for it to end, or choose another folder with -o") from None
    try:
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
        yield
    finally:
        # Unlinking while we hold the lock is safe: filelock checks after locking that the inode is still the named one.
        path.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def check_output(target: Path, sources: list[Path]) -> None:
    """Refuse an output folder that is a file, or that lies inside (or holds) one of the inputs.

    Raises:
        UsageError: one of the above.
    """
    resolved = target.resolve()
    if resolved.exists() and not resolved.is_dir():
        raise UsageError(f"the output {target} is a file", "choose a folder with -o")
    for source in sources:
        if resolved == source.resolve() or source.resolve() in resolved.parents:
            raise UsageError(f"the output {target} lies inside the input {source}", "choose another folder with -o")
        if resolved in source.resolve().parents and resolved.exists() and read_manifest(resolved) is not None:
            raise UsageError(f"the output {target} holds the input {source}", "choose another folder with -o")


def free_space(target: Path) -> int:
    """Return how many bytes may be written below a path that need not exist yet: what is free, less a reserve."""
    existing = next(path for path in (target, *target.parents) if path.exists())
    return shutil.disk_usage(existing).free - RESERVE_BYTES


def check_space(target: Path, needed: int, elsewhere: str = "choose a folder on another disk with -o") -> None:
    """Refuse to start writing `needed` bytes where they do not fit; `elsewhere` says how another place is chosen.

    Raises:
        ResourceError: less than `needed` plus a reserve is free.
    """
    room = free_space(target)
    if room < needed:
        raise ResourceError(
            f"{target} needs about {needed / 2**20:.1f} MiB beside a reserve of {RESERVE_BYTES >> 20} MiB, and only "
            f"{(room + RESERVE_BYTES) / 2**20:.1f} MiB are free",
            f"free some space or {elsewhere}",
        )
