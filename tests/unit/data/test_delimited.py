"""CSV and TSV: columns never shift, and a line that does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.core.errors import DataError
from compress.data import delimited


def read(path: Path, content: str, encoding: str = "utf-8") -> list[list[str]]:
    path.write_bytes(content.encode(encoding))
    separator = "\t" if path.suffix == ".tsv" else ","
    return [delimited.header(path, separator), *delimited.rows(path, separator)]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b\nx,1\ny,2\n", [["x", "1"], ["y", "2"]]),
        ("a,b\nx,1,\ny,2\n", [["x", "1"], ["y", "2"]]),  # a trailing comma
        ("a,b\r\nx,1\ny,2\rz,3", [["x", "1"], ["y", "2"], ["z", "3"]]),  # mixed line ends
        ("\ufeffa,b\nx,1\n", [["x", "1"]]),
        ("a,b\nx\0y,1\n", [["x\0y", "1"]]),
        ('a,b\n"x ""y"", z",1\n', [['x "y", z', "1"]]),
        ('a,b\n"x \\"y\\", z",1\n"C:\\dir",2\n', [['x "y", z', "1"], ["C:\\dir", "2"]]),
        ('a,b\n"x\n\ny",1\n', [["x\n\ny", "1"]]),
        ('a,b\nx "y" z,1\n', [['x "y" z', "1"]]),
        ("a,b\n\n  \nx,1\n", [["x", "1"]]),
        ("a,b\n,\n", [["", ""]]),
    ],
)
def test_dialects_of_csv(tmp_path: Path, content: str, rows: list[list[str]]) -> None:
    assert read(tmp_path / "x.csv", content) == [["a", "b"], *rows]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    assert read(tmp_path / "x.tsv", "a\tb\né\t1\n", encoding) == [["a", "b"], ["é", "1"]]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a,b\nx,1\ny\n", "line 3 of .* has 1 fields, and the header has 2"),
        ("a,b\nx,1\ny,2,3\n", "line 3 of .* has 3 fields.*'3' is too much"),
        ("a,b\nx,y,1\nz,w,2\n", "line 2 of .* has 3 fields"),  # no index column
        ('a,b\nx,1\n"y,2\n', "line 3 of .* quote that is not closed"),
        ('a,b\n"x" y,1\n', "line 2 of .* quote"),
    ],
)
def test_lines_that_do_not_fit(tmp_path: Path, content: str, line: str) -> None:
    with pytest.raises(DataError, match=line):
        read(tmp_path / "x.csv", content)


def test_bare_quotes_of_a_tsv_are_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = 'a\tb\n"x , he said\t1\n"y" , she said\t2\nz "\t3\n'
    assert read(tmp_path / "x.tsv", content)[1:] == [['"x , he said', "1"], ['"y" , she said', "2"], ['z "', "3"]]
    assert "plain characters" in capsys.readouterr().err


def test_a_quotation_over_two_rows_of_a_tsv_does_not_join_them(tmp_path: Path) -> None:
    assert read(tmp_path / "x.tsv", 'a\tb\n"one\t1\ntwo\t"\nthree\t3\n')[1:] == [['"one', "1"], ["two", '"'], ["three", "3"]]


def test_names_of_columns(tmp_path: Path) -> None:
    assert read(tmp_path / "x.csv", ",a,a,\n0,x,y\n") == [["Unnamed: 0", "a", "a.1", "Unnamed: 3"], ["0", "x", "y", ""]]
