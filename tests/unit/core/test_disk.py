"""Free disk space."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from compress.core import disk
from compress.core.errors import ResourceError


def test_space_is_checked_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=disk.RESERVE_BYTES + 1000))
    disk.check_space(tmp_path / "not" / "yet" / "there", 1000)
    with pytest.raises(ResourceError, match="free") as caught:
        disk.check_space(tmp_path, 1001, "set COMPRESS_CACHE")
    assert caught.value.exit_code == 5
    assert caught.value.hint == "free some space or set COMPRESS_CACHE"
    assert "a reserve of 64 MiB" in caught.value.message
