"""The cache on disk, by the example of a teacher's outputs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core import artifacts, disk_cache, files, locks
from compress.core.errors import ResourceError
from compress.distill.teacher_outputs import TeacherOutputs, compute_teacher_outputs
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


def outputs_of(digest: str = "abc") -> TeacherOutputs:
    """Return the outputs of the tiny teacher."""
    return compute_teacher_outputs(tiny.make_model(), digest, tiny.encoded(), [("hidden", 3)], CPU)


def readable_entries(cache: Path) -> set[str]:
    """Return the names of the entries with a readable manifest."""
    return {path.name for path in cache.iterdir() if artifacts.read_manifest(path)}


def test_the_least_recently_used_entries_are_removed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    outputs_of(digest="a")
    (first,) = readable_entries(cache)
    size = sum(path.stat().st_size for path in (cache / first).iterdir())
    outputs_of(digest="b")
    (second,) = readable_entries(cache) - {first}
    for name, when in ((first, 1000), (second, 2000)):
        os.utime(cache / name / artifacts.MANIFEST, (when, when))
    outputs_of(digest="a")  # used again: now the second is older
    monkeypatch.setattr(disk_cache, "LIMIT_BYTES", int(2.5 * size))
    outputs_of(digest="c")
    assert first in readable_entries(cache)
    assert second not in readable_entries(cache)
    assert len(list(cache.iterdir())) == 2


def test_an_entry_in_use_stays(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    outputs_of(digest="a")
    (first,) = readable_entries(cache)
    monkeypatch.setattr(disk_cache, "LIMIT_BYTES", 1)
    with locks.locked(cache / first):
        outputs_of(digest="b")
    assert first in readable_entries(cache)
    outputs_of(digest="c")
    assert first not in readable_entries(cache)


def test_remains_of_a_killed_run_are_removed(cache: Path) -> None:
    for name in (".0badc0de.tmp-4194304", "0badcafe"):  # partly written, and partly removed
        (cache / name).mkdir(parents=True)
        (cache / name / "logits.npy").write_bytes(b"half")
    outputs_of()
    (name,) = [path.name for path in cache.iterdir()]
    assert readable_entries(cache) == {name}


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "key"])
def test_a_damaged_entry_is_computed_again(cache: Path, damage: str) -> None:
    before = outputs_of().logits.copy()
    (folder,) = cache.iterdir()
    path = folder / "logits.npy"
    whole = path.read_bytes()
    if damage == "key":
        files.write_json(folder / artifacts.MANIFEST, {**(artifacts.read_manifest(folder) or {}), "key": "another"})
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:-4] if damage == "cut" else whole[:-1] + b"x")
    np.testing.assert_array_equal(outputs_of().logits, before)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("at", ["posix_fallocate", "save", "manifest"])
def test_a_disk_that_fills_up_exits_with_5_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path, at: str) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place, name = {"posix_fallocate": (os, "posix_fallocate"), "save": (np, "save"), "manifest": (files, "write_json")}[at]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(ResourceError, match="cannot be cached in .*No space left") as caught:
            outputs_of()
    assert caught.value.exit_code == 5
    assert "COMPRESS_CACHE" in (caught.value.hint or "")
    assert not list(cache.iterdir())
    assert outputs_of().logits.shape == (12, 3)
