"""Kernel locks of output folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compress.core import locks
from compress.core.errors import Locked

HOLDER = """
import sys
from pathlib import Path
from compress.core import artifacts, caches, digests, disk, files, locks, outputs
with locks.locked(Path(sys.argv[1])):
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
        with pytest.raises(Locked, match=rf"target is in use by process {holder.pid} on ") as caught, locks.locked(tmp_path / "target"):
            pass
    assert caught.value.exit_code == 75


def test_a_killed_holder_frees_the_lock(tmp_path: Path, holder: Any) -> None:
    holder.kill()
    holder.wait()
    with locks.locked(tmp_path / "target"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_is_of_one_folder(tmp_path: Path, holder: Any) -> None:
    with locks.locked(tmp_path / "other"):
        pass


def test_a_holder_that_left_no_name_is_still_a_holder(tmp_path: Path, holder: Any) -> None:
    (tmp_path / ".target.lock").write_text("nonsense", encoding="utf-8")
    with pytest.raises(Locked, match="another process"), locks.locked(tmp_path / "target"):
        pass


def test_the_lock_is_freed_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), locks.locked(tmp_path / "target"):
        raise ValueError("x")
    with locks.locked(tmp_path / "target"):
        pass


COUNTER = """
import sys
from pathlib import Path
from compress.core import artifacts, caches, digests, disk, files, locks, outputs
folder = Path(sys.argv[1])
for _ in range(8):
    with locks.locked(folder / "counter", wait=True):
        value = int((folder / "count").read_text())
        (folder / "count").write_text(str(value + 1))
"""


def test_waiting_processes_take_turns(tmp_path: Path) -> None:
    """The lock file is unlinked on release: no two processes may ever hold locks on different inodes."""
    (tmp_path / "count").write_text("0", encoding="utf-8")
    processes = [subprocess.Popen([sys.executable, "-c", COUNTER, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text(encoding="utf-8") == "24"
