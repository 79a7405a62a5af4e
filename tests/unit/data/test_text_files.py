"""Text files are bounded by what they unpack to and by the length of a line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from compress.core.errors import DataError
from compress.data import text_files
from compress.data.tables import read_batches


def test_a_file_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "FREE_BYTES", 1 << 20)
    with gzip.open(tmp_path / "x.csv.gz", "wb") as stream:
        stream.write(b"text,label\n")
        for _ in range(40):
            stream.write(b"a,b\n" * 50_000)
    with pytest.raises(DataError, match="unpacks to more than 1 MB") as caught:
        list(read_batches(tmp_path / "x.csv.gz", ["text"]))
    assert "gunzip" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.tsv"])
def test_a_line_without_end(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "MAX_LINE", 1000)
    (tmp_path / name).write_text("text\n" + "a" * 2000, encoding="utf-8")
    with pytest.raises(DataError, match="line 2 of .* has more than"):
        list(read_batches(tmp_path / name, ["text"]))
