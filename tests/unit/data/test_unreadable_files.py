"""Files that are missing, empty, damaged or of an unknown kind."""

from __future__ import annotations

import contextlib
import gzip
import resource
from pathlib import Path

import pytest

from compress.core.errors import DataError, ResourceError
from compress.data.tables import file_format, read_batches
from tests import page_header
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


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("field", page_header.FIELDS)
@pytest.mark.parametrize("value", [2**31 - 1, 10**6, 0, -1])
def test_a_page_that_claims_false_sizes(tmp_path: Path, compression: str, field: str, value: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    texts = [f"a red dog {number}" for number in range(500)]
    pq.write_table(pa.table({"text": texts}), path, compression=compression, use_dictionary=False, write_statistics=False)
    path.write_bytes(page_header.claiming(path.read_bytes(), field, value))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read: list[object] | None = None
    with contextlib.suppress(DataError, ResourceError):
        read = [text for batch in read_batches(path, ["text"]) for text in batch["text"]]
    assert read in (None, texts)  # Arrow may not need the number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 << 10  # KiB


def test_a_page_header_is_changed_in_place(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 500}), path, compression="none", use_dictionary=False, write_statistics=False)
    whole = path.read_bytes()
    assert page_header.claiming(whole, "values", 500) == whole
    assert len(page_header.claiming(whole, "values", 2**31 - 1)) == len(whole)
