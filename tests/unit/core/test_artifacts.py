"""The manifest of an artifact."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from compress.core import artifacts, digests


def make(folder: Path, contents: dict[str, bytes]) -> dict[str, str]:
    """Write files below a fresh folder; returns their digests."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return artifacts.digest_files(folder)


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
    results = [digests.digest_json(make(tmp_path / "folder", variant)) for variant in variants]
    assert len(set(results)) == len(variants)
    assert digests.digest_json(make(tmp_path / "folder", contents)) == results[0]


def test_digests_leave_out_the_manifest_and_hidden_files(tmp_path: Path) -> None:
    plain = make(tmp_path / "folder", {"a": b"1", "sub/compress.json": b"2"})
    more = make(tmp_path / "folder", {"a": b"1", "sub/compress.json": b"2", "compress.json": b"3", ".x": b"4", "sub/.y/z": b"5"})
    assert plain == more
    assert set(plain) == {"a", "sub/compress.json"}


@pytest.mark.parametrize("content", [b"", b"[]", b"nonsense", b"\xff", b"3"])
def test_a_manifest_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    assert artifacts.read_manifest(tmp_path) is None
    (tmp_path / artifacts.MANIFEST).write_bytes(content)
    assert artifacts.read_manifest(tmp_path) is None


def test_a_manifest_nested_too_deep_is_none(tmp_path: Path) -> None:
    (tmp_path / artifacts.MANIFEST).write_text("[" * 200_000, encoding="utf-8")
    assert artifacts.read_manifest(tmp_path) is None
