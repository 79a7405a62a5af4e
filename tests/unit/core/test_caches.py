"""Where caches are."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.core import caches


def test_cache_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", "/explicit")
    assert caches.cache_root() == Path("/explicit")
    monkeypatch.delenv("COMPRESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert caches.cache_root() == Path("/xdg/compress")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches.cache_root() == tmp_path / ".cache" / "compress"
