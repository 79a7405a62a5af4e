"""Map failures of the system (full disk, no memory), which libraries report in different ways, to errors with exit code 5.

Libraries in Rust and C++ raise a plain `Exception` or `RuntimeError` with the system's message in its text.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator

from compress.core.caches import cache_root
from compress.core.errors import CompressError, ResourceError, UsageError

HINTS = {
    errno.ENOSPC: "free some disk space, or write to another disk with -o (temporary files: TMPDIR, caches: COMPRESS_CACHE)",
    errno.EDQUOT: "free some of your disk quota, or write to another disk with -o",
    errno.EFBIG: "raise the limit of file sizes: ulimit -f unlimited",
    errno.EROFS: "choose a folder that can be written with -o (temporary files: TMPDIR, caches: COMPRESS_CACHE)",
    errno.EIO: "check the disk: the system log says more",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENFILE: "close other programs: the system has too many open files",
    errno.ENOMEM: "free some memory; smaller batches and shorter texts need less",
}
DENIED = (errno.EACCES, errno.EPERM)  # missing resources only for temporary files and caches, not for the user's files
CHECK_FOLDER = "check free disk space and the permissions of the folder"
_NUMBERED = re.compile(r"\((?:os )?error (\d+)\)|\[Errno (\d+)\]|\berrno:? (\d+)")
_TEXTS = {os.strerror(number): number for number in HINTS}
_NO_MEMORY = re.compile(r"std::bad_alloc|bad allocation|not enough memory|[Ff]ailed to allocate memory|malloc of size \d+ failed")
DEPTH = 10  # causes that are followed


def resource_errno(error: BaseException | None) -> int | None:
    """Return the errno of a missing resource that an exception or one of its causes reports, or None."""
    for _ in range(DEPTH):
        if error is None:
            return None
        number = _errno_of(error)
        if number is not None:
            return number
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def _errno_of(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in HINTS or (error.errno in DENIED and _is_ours(error.filename)) else None
    if isinstance(error, CompressError) or not isinstance(error, Exception):
        return None
    text = str(error)[:4000]
    for match in _NUMBERED.finditer(text):
        number = int(next(group for group in match.groups() if group))
        if number in HINTS:
            return number
    if _NO_MEMORY.search(text):
        return errno.ENOMEM
    return next((number for message, number in _TEXTS.items() if message in text), None)


def _is_ours(name: object) -> bool:
    """Return whether a file is in the temporary folder or in the cache."""
    if not isinstance(name, str | bytes):
        return False
    path = os.path.abspath(os.fsdecode(name))
    return any(path.startswith(os.path.join(os.path.abspath(folder), "")) for folder in (tempfile.gettempdir(), cache_root()))


def typed(error: Exception) -> CompressError | None:
    """Return the error to show instead of a library's exception, or None to keep the exception."""
    if isinstance(error, CompressError) and (isinstance(error, ResourceError) or not 1 <= error.exit_code <= 4):
        return None
    number = resource_errno(error)
    if number is not None:
        return ResourceError(_message(error, number), HINTS.get(number, HINTS[errno.EROFS]))
    if not isinstance(error, CompressError | OSError) and (match := _NUMBERED.search(str(error)[:4000])):
        return ResourceError(_message(error, int(next(filter(None, match.groups())))), CHECK_FOLDER)
    if isinstance(error, UnicodeEncodeError):
        return UsageError(f"{error.object[:200]!a} is not a name or text in UTF-8", "rename the file or folder, or save the file as UTF-8")
    return None


def _message(error: Exception, number: int) -> str:
    if isinstance(error, OSError):
        where = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
        return (error.strerror or os.strerror(number)) + where
    text = error.message if isinstance(error, CompressError) else (str(error).splitlines() or [""])[0]
    reason = os.strerror(number)
    return text if reason in text else f"{reason}: {text}" if text else reason


@contextlib.contextmanager
def typed_errors() -> Iterator[None]:
    """Raise failures of the system as `ResourceError`, however a library reports them.

    Raises:
        ResourceError: a disk is full, memory is exhausted and so on.
        UsageError: a name that is not UTF-8 was passed to a library that requires UTF-8.
    """
    try:
        yield
    except Exception as error:
        replacement = typed(error)
        if replacement is None:
            raise
        raise replacement from error
