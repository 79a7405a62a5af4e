"""Where a row is written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from compress.data.row_places import place_of_row
from compress.data.sources import FileSource, RowSource


@pytest.mark.parametrize(
    ("name", "content", "row", "expected"),
    [
        ("a.jsonl", '{"x": 1}\n\n{"x": 2}\n', 1, "line 3"),
        ("a.tsv", "x\ty\n1\t2\n\n3\t4\n", 1, "line 4"),
        ("a.csv", 'x,y\n"1\n1",2\n3,4\n', 1, "line 4"),
        ("a.json", '[{"x": 1}, {"x": 2}]\n', 1, "row 2"),
    ],
)
def test_the_line_of_a_row(tmp_path: Path, name: str, content: str, row: int, expected: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert place_of_row(FileSource((tmp_path / name,)), row) == f"{expected} of {tmp_path / name}"


def test_rows_of_shards_and_of_tables(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text('{"x": 1}\n{"x": 2}\n', encoding="utf-8")
    shards = FileSource((tmp_path / "a.jsonl", tmp_path / "b.jsonl"))
    assert place_of_row(shards, 3) == f"line 2 of {tmp_path / 'b.jsonl'}"
    pd.DataFrame({"x": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    assert place_of_row(FileSource((tmp_path / "a.parquet",)), 1) == f"row 2 of {tmp_path / 'a.parquet'}"
    assert place_of_row(RowSource([{"x": "1"}], "here"), 0) == "row 1 of here"
