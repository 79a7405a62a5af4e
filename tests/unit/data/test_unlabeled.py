"""Texts without labels, from lines and from tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.examples import Examples
from compress.data.presets import resolve
from compress.data.unlabeled import append_unlabeled, read_unlabeled


def read(path: Path, content: str, **fields: Any) -> Examples:
    path.write_text(content, encoding="utf-8")
    return read_unlabeled(str(path), resolve({"text": ["text"], "train": "a.csv", **fields}))


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    examples = read(tmp_path / "x.txt", "\ufeffone\n\n  two, three \n")
    assert examples.texts == [("one",), ("two, three",)]
    assert examples.labels.tolist() == [0, 0]


def test_only_line_ends_separate_texts(tmp_path: Path) -> None:
    assert read(tmp_path / "x.txt", "a\u2028b\x0bc\r\nd\x85e\x1cf\n").texts == [("a\u2028b\x0bc",), ("d\x85e\x1cf",)]
    (tmp_path / "x.txt").write_bytes("one\ntwo".encode("utf-16"))
    assert read_unlabeled(str(tmp_path / "x.txt"), resolve({"text": ["text"], "train": "a.csv"})).texts == [("one",), ("two",)]


def test_tables_need_no_labels_and_skip_rows_without_a_text(tmp_path: Path) -> None:
    assert read(tmp_path / "x.jsonl", '{"text": "a"}\n{"text": null}\n{"text": 5}\n').texts == [("a",), ("5",)]
    pairs = read(tmp_path / "x.csv", "b,a\n1,2\n3,\n", text=["a", "b"])
    assert pairs.texts == [("2", "1"), ("", "3")]
    tokens = read(tmp_path / "y.jsonl", '{"text": ["a", "b"]}\n', kind="token-classification")
    assert tokens.texts == [("a", "b")]
    assert tokens.labels[0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "content", "fields", "message"),
    [
        ("x.txt", "\n\n", {}, "has no texts"),
        ("x.txt", "a\n", {"text": ["a", "b"]}, "has one text a line, and custom takes 2"),
        ("x.csv", "texts\na\n", {}, r"no column 'text' \(did you mean 'texts'"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, name: str, content: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, content, **fields)


def test_appended_texts_have_labels_of_zeros() -> None:
    labeled = Examples([("a",)], np.ones((1, 3), dtype=np.float32))
    both = append_unlabeled(labeled, Examples([("b",)], np.zeros(1)))
    assert both.texts == [("a",), ("b",)]
    assert both.labels.tolist() == [[1, 1, 1], [0, 0, 0]]
