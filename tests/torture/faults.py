"""Let the Nth change of a file fail: by the preloaded library (faults.c), or where there is no compiler by hooks in Python's `os`."""

from __future__ import annotations

import builtins
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = ("create", "write", "fsync", "rename", "mkdir", "unlink", "rmdir")
REMOVALS = 1 << KINDS.index("unlink") | 1 << KINDS.index("rmdir")
KILL = -1
ENTRIES, NAME = 4096, 248
LOADED = "TORTURE_FAULTS"  # in the environment: the preloaded library


class _Entry(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("fired", ctypes.c_int), ("path", ctypes.c_char * NAME))


class _Control(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("pid", "target", "error", "onwards", "spared", "count", "fired")),
        ("folder", ctypes.c_char * NAME),
        ("calls", _Entry * ENTRIES),
    )


def preload(folder: Path) -> None:
    """Compile the library and start this process again with it; returns if that was done, or if there is no compiler."""
    if LOADED in os.environ:
        return
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return
    library = folder / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(Path(__file__).with_name("faults.c")), "-ldl"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return
    os.environ[LOADED] = str(library)
    os.environ["LD_PRELOAD"] = ":".join(filter(None, [str(library), os.environ.get("LD_PRELOAD")]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


class Faults:
    """A counter of calls that a forked process inherits, and that this one reads when it has ended.

    `target` is the number of the call to fail, from 1 (0: none), `error` an errno or KILL. With `onwards` every later call fails, too,
    except removals if `spare_removals`: a full disk can still be emptied.
    """

    def __init__(self) -> None:
        library = os.environ.get(LOADED)
        self.native = library is not None
        self._control = _shared(library)

    def prepare(self, folder: Path, target: int = 0, error: int = 0, onwards: bool = False, spare_removals: bool = False) -> None:
        """Set what happens in the next process that calls `arm`."""
        c = self._control
        ctypes.memset(ctypes.addressof(c), 0, ctypes.sizeof(c))
        c.target, c.error, c.onwards, c.folder = target, error, int(onwards), os.fsencode(folder)
        c.spared = REMOVALS if spare_removals else 0

    def arm(self) -> None:
        """Count from here on, in this process."""
        self._control.pid = os.getpid()
        if not self.native:
            _hook(self)

    @property
    def fired(self) -> int:
        """How many calls failed."""
        return self._control.fired

    def calls(self) -> list[tuple[str, str]]:
        """Return the kind and the path of every call so far."""
        known = min(self._control.count, ENTRIES)
        return [(KINDS[entry.kind], os.fsdecode(entry.path)) for entry in self._control.calls[:known]]

    def strikes(self, kind: str, path: Any) -> bool:
        """Count a call from Python; returns whether it is to fail."""
        c = self._control
        text = os.fsencode(path) if isinstance(path, str | bytes | os.PathLike) else b""
        if c.pid != os.getpid() or (text.startswith(b"/") and not text.startswith(c.folder)):
            return False
        c.count += 1
        later = c.onwards and c.count > c.target and not c.spared >> KINDS.index(kind) & 1
        hit = bool(c.target) and (c.count == c.target or bool(later))
        if c.count <= ENTRIES:
            entry = c.calls[c.count - 1]
            entry.kind, entry.fired, entry.path = KINDS.index(kind), hit, text[: NAME - 1]
        if hit:
            c.fired += 1
            if c.error == KILL:
                os.kill(os.getpid(), signal.SIGKILL)
        return hit

    @property
    def error(self) -> int:
        """The errno of the failing call."""
        return self._control.error


def _shared(library: str | None) -> Any:
    if library is not None:
        share = ctypes.CDLL(library).faults_share
        share.restype = ctypes.POINTER(_Control)
        return share().contents
    import mmap

    memory = mmap.mmap(-1, ctypes.sizeof(_Control))
    return _Control.from_buffer(memory)


def _hook(faults: Faults) -> None:
    """Put hooks into Python's own functions: native writers are not seen."""

    def guarded(original: Callable[..., Any], kind: str, position: int = 0) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if faults.strikes(kind, arguments[position]):
                raise OSError(faults.error, os.strerror(faults.error), os.fspath(arguments[position]))
            return original(*arguments, **options)

        return call

    for name, kind, position in (
        ("fsync", "fsync", 0), ("rename", "rename", 1), ("replace", "rename", 1), ("mkdir", "mkdir", 0),
        ("unlink", "unlink", 0), ("remove", "unlink", 0), ("rmdir", "rmdir", 0),
    ):  # fmt: skip
        setattr(os, name, guarded(getattr(os, name), kind, position))
    plain = builtins.open

    def opening(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if set(mode) & set("wax+") and faults.strikes("create", file):
            raise OSError(faults.error, os.strerror(faults.error), os.fspath(file))
        return plain(file, mode, *arguments, **options)

    builtins.open = opening  # type: ignore[assignment]
    import io

    io.open = opening  # type: ignore[assignment]
