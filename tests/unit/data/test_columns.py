"""Text and label columns of a split, from files of every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.presets import resolve
from compress.data.task import Task
from tests.unit.data.task_rows import FORMATS, ROWS, from_rows, task, write


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    found = from_rows(tmp_path, ROWS, ending)
    assert found.label_names == ["no", "yes"]
    examples = found.split("train")
    assert examples.texts == [(text,) for text, _ in ROWS]
    assert examples.labels.tolist() == [int(label == "yes") for _, label in ROWS]
    assert examples.labels.dtype == np.int64


def test_pairs_come_from_two_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("one", "two", "x"), ("three", "", "y")], ("first", "second", "gold"))
    spec = resolve({"text": ["second", "first"], "label": "gold", "test": str(path)})
    assert Task(spec).split("test").texts == [("two", "one"), ("", "three")]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_wrong_column_names_the_nearest(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", ROWS, ("sentence", "label"))
    with pytest.raises(DataError) as caught:
        Task(resolve({"text": ["sentense"], "train": str(path)})).split("train")
    assert caught.value.exit_code == 4
    assert "no column 'sentense' (did you mean 'sentence'?); it has: sentence, label" in caught.value.message
    assert str(path) in caught.value.message


def test_a_wrong_label_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'labels'.*did you mean 'label'"):
        from_rows(tmp_path, ROWS, label="labels").split("train")


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_file_without_rows(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", [])
    with pytest.raises(DataError, match="has no rows"):
        task(train=str(path)).split("train")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_missing_text_is_counted(tmp_path: Path, ending: str) -> None:
    rows = [*ROWS, (None, "yes"), (None, "no")]
    with pytest.raises(DataError, match="2 of 12 rows of .* have no text in column 'text'"):
        from_rows(tmp_path, rows, ending).split("train")


def test_labels_that_are_lists_are_data_errors(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": [1]}\n{"text": "b", "label": {"x": 2}}\n', encoding="utf-8")
    with pytest.raises(DataError):
        task(train=str(tmp_path / "a.jsonl"), labels=["no", "yes"]).split("train")
