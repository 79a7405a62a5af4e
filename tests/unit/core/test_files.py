"""Files that are whole or absent, whatever fails and whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.core import files, locks
from compress.core.errors import ResourceError

FAULTS = 12  # more boundaries than any write here has


class Injected(OSError):
    """The failure of the Nth call."""


class Faults:
    """Lets the Nth of all writes, fsyncs and renames fail, or (`kill`) kills the process there."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int) -> None:
        self.calls, self.fail_at = 0, fail_at
        for name in ("fsync", "rename", "replace"):
            patch.setattr(os, name, self.wrap(getattr(os, name)))
        patch.setattr(Path, "write_bytes", self.wrap(Path.write_bytes))

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count calls and fail the Nth."""

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self.fail_at:
                raise Injected(28, "No space left on device")
            return function(*args, **kwargs)

        return counted


def contents(folder: Path) -> dict[str, bytes] | None:
    """Return a folder's files, or None where there is none."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


OLD, NEW = {"a": b"old", "b": b"old too"}, {"a": b"new", "c": b"new too"}


def write(target: Path, contents: dict[str, bytes]) -> None:
    """Write a folder atomically."""
    with files.atomic_folder(target) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)


def hidden(folder: Path) -> list[str]:
    """Return the hidden files next to the target."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "my folder"
    with files.atomic_folder(target) as temporary:
        (temporary / "a").write_bytes(b"1")
        assert not target.exists()
        assert temporary.parent == target.parent  # a sibling, on the same disk
    assert contents(target) == {"a": b"1"}
    assert not hidden(target.parent)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "target", OLD)
    write(tmp_path / "target", NEW)
    assert contents(tmp_path / "target") == NEW
    assert not hidden(tmp_path)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existed", [False, True])
def test_an_exception_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException], existed: bool) -> None:
    target = tmp_path / "target"
    if existed:
        write(target, OLD)
    with pytest.raises(error), files.atomic_folder(target) as temporary:
        (temporary / "a").write_bytes(b"half")
        raise error
    assert contents(target) == (OLD if existed else None)
    assert not hidden(tmp_path)


@pytest.mark.parametrize("fail_at", range(1, FAULTS))
def test_a_failed_call_never_leaves_half_a_new_folder(tmp_path: Path, fail_at: int) -> None:
    target = tmp_path / "target"
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, fail_at)
        try:
            write(target, NEW)
        except Injected:
            assert contents(target) in (None, NEW)
        else:
            assert faults.calls < fail_at
            assert contents(target) == NEW
    assert not hidden(tmp_path)


@pytest.mark.parametrize("fail_at", range(1, FAULTS))
def test_a_failed_call_never_loses_the_old_folder(tmp_path: Path, fail_at: int) -> None:
    target = tmp_path / "target"
    write(target, OLD)
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, fail_at)
        try:
            write(target, NEW)
        except Injected:
            assert contents(target) in (OLD, NEW)
        else:
            assert faults.calls < fail_at
            assert contents(target) == NEW


WRITER = """
import os, signal, sys
from pathlib import Path
from compress.core import artifacts, caches, digests, disk, files, locks, outputs

calls, kill_at = 0, int(sys.argv[2])

def wrap(function):
    def counted(*args, **kwargs):
        global calls
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        return result
    return counted

for name in ("fsync", "rename", "replace"):
    setattr(os, name, wrap(getattr(os, name)))
Path.write_bytes = wrap(Path.write_bytes)
with locks.locked(Path(sys.argv[1])), files.atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "a").write_bytes(b"new")
    (temporary / "c").write_bytes(b"new too")
"""


@pytest.mark.parametrize("existed", [False, True])
def test_a_writer_killed_at_any_boundary_leaves_old_or_new(tmp_path: Path, existed: bool) -> None:
    """`kill -9` before every write, fsync and rename; then the next writer finds whole files and no leftovers."""
    killed = []
    for kill_at in range(1, FAULTS):
        target = tmp_path / f"{kill_at}" / "target"
        if existed:
            write(target, OLD)
        done = subprocess.run([sys.executable, "-c", WRITER, str(target), str(kill_at)], check=False, timeout=60)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed.append(kill_at)
        with locks.locked(target):  # the kernel freed the lock
            files.remove_leftovers(target)  # what the next writer does first
            assert contents(target) in ((OLD, NEW) if existed else (None, NEW)), kill_at
            write(target, NEW)
        assert contents(target) == NEW
        assert not hidden(target.parent)
    assert len(killed) >= 6


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "a [1] model"
    for name in (".a [1] model.tmp-1", ".a [1] model.old-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(b"x")
    target.mkdir()
    write(target, NEW)
    assert contents(target) == NEW
    assert not hidden(tmp_path)


def test_a_folder_caught_in_mid_rename_is_put_back(tmp_path: Path) -> None:
    write(tmp_path / "target", OLD)
    (tmp_path / "target").rename(tmp_path / ".target.old-77")
    files.remove_leftovers(tmp_path / "target")
    assert contents(tmp_path / "target") == OLD


def test_leftovers_of_other_folders_stay(tmp_path: Path) -> None:
    (tmp_path / ".other.tmp-1").mkdir()
    write(tmp_path / "target", NEW)
    assert hidden(tmp_path) == [".other.tmp-1"]


@pytest.mark.parametrize("fail_at", range(1, 4))
def test_a_failed_text_write_leaves_the_old_text(tmp_path: Path, fail_at: int) -> None:
    path = tmp_path / "file.json"
    files.write_text(path, "old")
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, fail_at)
        try:
            files.write_json(path, {"new": 1})
        except Injected:
            assert path.read_text(encoding="utf-8") == "old"
        else:
            assert faults.calls == 2  # one fsync, one rename
            assert files.read_json(path) == {"new": 1}
    assert not hidden(tmp_path)


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    files.write_json(path, {"old": 1})
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with pytest.raises(ValueError, match="Circular"):
        files.write_json(path, circle)
    assert files.read_json(path) == {"old": 1}


def test_parent_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="cannot create the folder") as caught:
        write(tmp_path / "file" / "target", NEW)
    assert caught.value.exit_code == 5


def test_parent_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ResourceError, match="not writable"):
        write(tmp_path / "target", NEW)
    assert not list(tmp_path.iterdir())


def test_reading_json_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps("x" * 100), encoding="utf-8")
    assert files.read_json(tmp_path / "a.json", limit=102) == "x" * 100
    with pytest.raises(ValueError, match="larger"):
        files.read_json(tmp_path / "a.json", limit=101)


def test_a_folder_that_was_moved_and_linked_is_replaced_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "disk" / "stage").mkdir(parents=True)
    (tmp_path / "disk" / "stage" / "old").touch()
    (tmp_path / "stage").symlink_to(tmp_path / "disk" / "stage")
    with files.atomic_folder(tmp_path / "stage") as temporary:
        (temporary / "new").touch()
    assert (tmp_path / "stage").is_symlink()
    assert [path.name for path in (tmp_path / "disk" / "stage").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "stage"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["stage"]


def test_a_link_that_leads_nowhere_is_refused_before_anything_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "stage").symlink_to(tmp_path / "gone")
    with pytest.raises(ResourceError, match="symbolic link"), files.atomic_folder(tmp_path / "stage"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]
