"""JSON as it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import DataError
from compress.data.json_files import json_rows

ROWS = [{"text": "a\u2028b", "label": 1}, {"text": "c", "label": None}]
SQUAD = {"version": "2.0", "data": [{"title": "T", "paragraphs": [{"context": "the dog", "qas": [
    {"id": "1", "question": "who?", "answers": [{"text": "dog", "answer_start": 4}]},
    {"id": "2", "question": "why?", "is_impossible": True, "answers": [], "plausible_answers": [{"text": "dog", "answer_start": 4}]},
]}]}]}  # fmt: skip


def read(path: Path, content: str, encoding: str = "utf-8") -> list[dict[str, Any]]:
    path.write_text(content, encoding=encoding)
    return list(json_rows(path))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_layouts(tmp_path: Path, indent: int | None, encoding: str) -> None:
    split = {"columns": ["text", "label"], "data": [list(row.values()) for row in ROWS]}
    for document in (ROWS, {"data": ROWS}, {"version": 1, "data": ROWS}, split):
        assert read(tmp_path / "x.json", json.dumps(document, indent=indent, ensure_ascii=False), encoding) == ROWS
    lines = "\n\n".join(json.dumps(row, indent=indent) for row in ROWS)
    assert read(tmp_path / "x.jsonl", lines, encoding) == ROWS


def test_one_row_is_a_row(tmp_path: Path) -> None:
    row = {"text": "a", "answers": [{"text": "a", "answer_start": 0}], "data": "x"}
    assert read(tmp_path / "x.jsonl", json.dumps(row)) == [row]


@pytest.mark.parametrize("indent", [None, 2])
def test_squad_is_flattened(tmp_path: Path, indent: int | None) -> None:
    rows = read(tmp_path / "x.json", json.dumps(SQUAD, indent=indent))
    assert [(row["question"], row["context"], row["answers"]) for row in rows] == [
        ("who?", "the dog", [{"text": "dog", "answer_start": 4}]),
        ("why?", "the dog", []),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("3", "line 1 of .* holds 3"),
        ('{"a": 1}\n{"a": \n', "line 2 of .* cannot be read as JSON"),
        ('{"a": 1}\n[1]\n', "line 2 of .* holds \\[1\\]"),
        ('[{"a": 1}, 2]', "entry 2 of .* is 2"),
        ('{"a": 1', "cannot be read as JSON"),
        ('{"data": [{"paragraphs": [{"qas": [{}]}]}]}', "SQuAD's layout"),
    ],
)
def test_what_is_none_of_them(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "x.json", content)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="JSON"):
        read(tmp_path / name, "[" * 100_000)
    with pytest.raises(DataError, match="JSON"):
        read(tmp_path / name, '{"a":1}\n' + '{"a":' * 100_000)
