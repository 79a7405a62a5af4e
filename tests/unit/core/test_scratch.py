"""Temporary files of a process."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from compress.core import scratch

KILLED = """
import os, signal, tempfile
from compress.core import scratch
scratch.adopt()
tempfile.mkdtemp()
scratch.folder().__enter__()
{end}
"""


def run(base: Path, end: str) -> int:
    """Run a process that leaves temporary folders behind when it ends."""
    environment = {**os.environ, "TMPDIR": str(base)}
    return subprocess.run([sys.executable, "-c", KILLED.format(end=end)], env=environment, timeout=60, check=False).returncode


def test_a_killed_process_is_cleaned_up_after_by_the_next(tmp_path: Path) -> None:
    assert run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert run(tmp_path, "") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_failed_process_leaves_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, "1 / 0") == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_of_living_processes_and_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / f"{scratch.PREFIX}mine").mkdir()
    (tmp_path / "compress-data").mkdir()
    scratch.remove_abandoned(scratch.root().parent)
    scratch.remove_abandoned(tmp_path)
    assert scratch.root().is_dir()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_another_process_sees_before_it_is_locked_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def seen(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        scratch.remove_abandoned(tmp_path)
        flock(descriptor, operation)

    monkeypatch.setattr(scratch, "_state", scratch._State())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", seen)
    folder = scratch.root()
    assert folder.parent == tmp_path
    assert folder.is_dir()
    scratch.remove_abandoned(tmp_path)
    assert folder.is_dir()
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_only_partly_removed_is_removed_after_a_minute(tmp_path: Path) -> None:
    old, new = tmp_path / f"{scratch.PREFIX}old", tmp_path / f"{scratch.PREFIX}new"
    for folder in (old, new):
        (folder / "deep").mkdir(parents=True)
    os.utime(old, (0, 0))
    scratch.remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_a_folder_is_removed_after_a_failure() -> None:
    try:
        with scratch.folder() as folder:
            (folder / "file").write_bytes(b"x")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not folder.exists()
    assert Path(tempfile.gettempdir()).is_dir()


def test_a_folder_that_cannot_be_removed_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with scratch.folder() as folder:
        (folder / "file").write_bytes(b"x")
        monkeypatch.setattr(os, "unlink", denied)
        monkeypatch.setattr(os, "rmdir", denied)
    assert folder.exists()
    monkeypatch.undo()


class Owner:
    """Has a folder."""


def test_a_folder_is_removed_with_its_owner() -> None:
    owner = Owner()
    folder = scratch.folder_of(owner)
    (folder / "file").write_bytes(b"x")
    del owner
    gc.collect()
    assert not folder.exists()


INTERRUPTED = """
import os, signal, tempfile
from compress.core import scratch
make = tempfile.mkdtemp
def interrupted(**options):
    made = make(**options)
    os.kill(os.getpid(), signal.SIGINT)
    return made
tempfile.mkdtemp = interrupted
scratch.adopt()
"""


def test_an_interrupt_while_the_folder_is_made_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], env=environment, timeout=60, check=False, capture_output=True)
    assert done.returncode == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []
