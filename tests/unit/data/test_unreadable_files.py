"""Files that are missing, empty, damaged or of an unknown kind."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from compress.core.errors import DataError
from compress.data.tables import file_format
from tests.unit.data.task_rows import ROWS, task, write


def test_a_file_that_is_not_there_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", ROWS)
    with pytest.raises(DataError, match=r"there is no file .*trian\.csv \(did you mean 'train\.csv'\?\)"):
        task(train=str(tmp_path / "trian.csv")).split("train")


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "csv.gz"])
def test_an_empty_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(gzip.compress(b"") if ending.endswith("gz") else b"")
    with pytest.raises(DataError, match=r"a\..*(is empty|no rows|cannot be read)") as caught:
        task(train=str(path)).split("train")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", b"PAR1 not parquet"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": \n'),
        ("a.jsonl", b"[1, 2]\n3\n"),
        ("a.json", b'"words"\n'),
        ("a.csv", b'text,label\na,"1\n'),
        ("a.csv", b"text,label\na,1\nb,2,3,4\n"),
        ("a.csv", "text,label\né,1\n".encode("latin-1")),
        ("a.csv.gz", b"not gzip"),
        ("a.tsv", b"\0\0\0"),
    ],
)
def test_damaged_files_are_data_errors(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        task(train=str(tmp_path / name)).split("train")
    assert str(tmp_path / name) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["a.doc", "a.xlsx", "a", "a.gz", "parquet"])
def test_unknown_kinds_of_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text,label\n", encoding="utf-8")
    with pytest.raises(DataError, match="unknown kind of file"):
        file_format(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\r\na,1\r\nb,2\r\n")
    assert task(train=str(tmp_path / "a.csv"), validation=str(tmp_path / "a.csv")).split("train").texts == [("a",), ("b",)]
