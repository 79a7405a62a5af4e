"""Files that are whole or absent, whatever fails and whoever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core import files
from compress.core.errors import Locked, ResourceError, UsageError

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
    """Return what was left beside the target."""
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
from compress import fs

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
with files.locked(Path(sys.argv[1])), files.atomic_folder(Path(sys.argv[1])) as temporary:
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
        with files.locked(target):  # the kernel freed the lock
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


HOLDER = """
import sys
from pathlib import Path
from compress import fs
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Any:
    """A process that holds the lock of `target` until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "target")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_is_told_who_holds_the_lock(tmp_path: Path, holder: Any) -> None:
    for _ in range(2):  # trying must not wipe the holder's name
        with pytest.raises(Locked, match=rf"target is in use by process {holder.pid} on ") as caught, files.locked(tmp_path / "target"):
            pass
    assert caught.value.exit_code == 75


def test_a_killed_holder_frees_the_lock(tmp_path: Path, holder: Any) -> None:
    holder.kill()
    holder.wait()
    with files.locked(tmp_path / "target"):
        pass
    assert not hidden(tmp_path)


def test_a_lock_is_of_one_folder(tmp_path: Path, holder: Any) -> None:
    with files.locked(tmp_path / "other"):
        pass


def test_a_holder_that_left_no_name_is_still_a_holder(tmp_path: Path, holder: Any) -> None:
    (tmp_path / ".target.lock").write_text("nonsense", encoding="utf-8")
    with pytest.raises(Locked, match="another process"), files.locked(tmp_path / "target"):
        pass


def test_the_lock_is_freed_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), files.locked(tmp_path / "target"):
        raise ValueError("x")
    with files.locked(tmp_path / "target"):
        pass


COUNTER = """
import sys
from pathlib import Path
from compress import fs
folder = Path(sys.argv[1])
for _ in range(8):
    with files.locked(folder / "counter", wait=True):
        value = int((folder / "count").read_text())
        (folder / "count").write_text(str(value + 1))
"""


def test_waiting_processes_take_turns(tmp_path: Path) -> None:
    """The lock file is unlinked on release: no two processes may ever hold locks on different inodes."""
    (tmp_path / "count").write_text("0", encoding="utf-8")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text(encoding="utf-8") == "24"


def make(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    """Write files below a fresh folder; returns their digests."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files.digest_files(folder)


def test_digests_change_with_names_and_contents(tmp_path: Path) -> None:
    contents = {"a": b"1", "sub/b": b"2"}
    variants = [
        contents,
        {"a": b"1", "sub/b": b"3"},
        {"a": b"2", "sub/b": b"1"},
        {"a": b"12", "sub/b": b""},
        {"a": b"1", "sub/c": b"2"},
        {"a": b"1", "b": b"2"},
        {"a": b"1"},
        {**contents, "c": b""},
    ]
    digests = [files.digest_json(make(tmp_path / "folder", variant)) for variant in variants]
    assert len(set(digests)) == len(variants)
    assert files.digest_json(make(tmp_path / "folder", contents)) == digests[0]


def test_digests_leave_out_the_manifest_and_hidden_files(tmp_path: Path) -> None:
    plain = make(tmp_path / "folder", {"a": b"1", "sub/compress.json": b"2"})
    more = make(tmp_path / "folder", {"a": b"1", "sub/compress.json": b"2", "compress.json": b"3", ".x": b"4", "sub/.y/z": b"5"})
    assert plain == more
    assert set(plain) == {"a", "sub/compress.json"}


def test_digests_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    published = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.digest_file(tmp_path / "a") == files.digest_bytes(b"abc") == published


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text(), max_size=5))
def test_digest_of_json_ignores_the_order_of_keys(document: dict[str, Any]) -> None:
    assert files.digest_json(document) == files.digest_json(dict(reversed(document.items())))


def test_reading_json_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps("x" * 100), encoding="utf-8")
    assert files.read_json(tmp_path / "a.json", limit=102) == "x" * 100
    with pytest.raises(ValueError, match="larger"):
        files.read_json(tmp_path / "a.json", limit=101)


@pytest.mark.parametrize("content", [b"", b"[]", b"nonsense", b"\xff", b"3"])
def test_a_manifest_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    assert files.read_manifest(tmp_path) is None
    (tmp_path / files.MANIFEST).write_bytes(content)
    assert files.read_manifest(tmp_path) is None


def test_a_manifest_nested_too_deep_is_none(tmp_path: Path) -> None:
    (tmp_path / files.MANIFEST).write_text("[" * 200_000, encoding="utf-8")
    assert files.read_manifest(tmp_path) is None


@pytest.mark.parametrize("place", ["source", "source/inside", "source/deep/inside", "./source", "elsewhere/../source/x"])
def test_output_inside_an_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "source").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="lies inside the input") as caught:
        files.check_output(Path(place), [Path("source")])
    assert caught.value.exit_code == 2


def test_output_inside_an_input_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "source")
    with pytest.raises(UsageError, match="lies inside"):
        files.check_output(tmp_path / "link" / "out", [tmp_path / "source"])


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        files.check_output(tmp_path / "file", [])


def test_output_that_holds_an_input_is_refused_if_it_would_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "out" / "source").mkdir(parents=True)
    files.check_output(tmp_path / "out", [tmp_path / "out" / "source"])  # refused later: it is not empty
    (tmp_path / "out" / files.MANIFEST).write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="holds the input"):
        files.check_output(tmp_path / "out", [tmp_path / "out" / "source"])


@pytest.mark.parametrize("place", ["out", "source-2", "sour", "runs/source"])
def test_output_beside_the_inputs_is_fine(tmp_path: Path, place: str) -> None:
    (tmp_path / "source").mkdir()
    files.check_output(tmp_path / place, [tmp_path / "source"])


def test_space_is_checked_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=files.RESERVE_BYTES + 1000))
    files.check_space(tmp_path / "not" / "yet" / "there", 1000)
    with pytest.raises(ResourceError, match="free") as caught:
        files.check_space(tmp_path, 1001, "set COMPRESS_CACHE")
    assert caught.value.exit_code == 5
    assert caught.value.hint == "free some space or set COMPRESS_CACHE"
    assert "a reserve of 64 MiB" in caught.value.message


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", "/explicit")
    assert files.cache_root() == Path("/explicit")
    monkeypatch.delenv("COMPRESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert files.cache_root() == Path("/xdg/compress")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_root() == tmp_path / ".cache" / "compress"
