"""Class labels of a task, from the cells of files: names, numbers, and what is no label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compress.core.errors import CompressError, DataError
from compress.data.presets import resolve
from compress.data.task import Task
from tests.unit.data.task_rows import FORMATS, ROWS, from_rows, task, write


@pytest.mark.parametrize("ending", FORMATS)
def test_numbered_labels_give_the_same_numbers_in_every_format(tmp_path: Path, ending: str) -> None:
    rows = [(f"text {number}", number % 11) for number in range(22)]
    found = from_rows(tmp_path, rows, ending)
    assert found.label_names == [str(number) for number in range(11)]  # 10 after 9, not after 1
    assert found.split("train").labels.tolist() == [number % 11 for number in range(22)]


@pytest.mark.parametrize("ending", FORMATS)
def test_numbers_name_the_labels_of_the_task(tmp_path: Path, ending: str) -> None:
    rows = [("a", 0), ("b", 1), ("c", 0)]
    assert from_rows(tmp_path, rows, ending, labels=["no", "yes"]).split("train").labels.tolist() == [0, 1, 0]


def test_whole_floats_and_categories_are_labels_too(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b", "c"], "label": [0.0, 1.0, 0.0]}).to_parquet(tmp_path / "a.parquet")
    assert task(train=str(tmp_path / "a.parquet")).label_names == ["0", "1"]
    pd.DataFrame({"text": ["a", "b", "c"], "label": pd.Categorical(["x", "y", "x"])}).to_parquet(tmp_path / "b.parquet")
    assert task(train=str(tmp_path / "b.parquet")).label_names == ["x", "y"]


def test_labels_in_the_tasks_own_order(tmp_path: Path) -> None:
    found = from_rows(tmp_path, ROWS, labels=["yes", "no"])
    assert found.split("train").labels.tolist() == [int(label == "no") for _, label in ROWS]


@pytest.mark.parametrize("labels", [None, ["yes", "no"]])
def test_one_class_is_nothing_to_learn(tmp_path: Path, labels: list[str] | None) -> None:
    rows = [(f"text {number}", "yes") for number in range(30)]
    with pytest.raises(DataError, match="nothing to learn"):
        from_rows(tmp_path, rows, labels=labels).split("train")


def test_one_class_of_a_test_file_alone_is_fine(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("a", "yes"), ("b", "yes")])
    assert task(test=str(path), labels=["no", "yes"]).split("test").labels.tolist() == [1, 1]


BAD_LABELS = [None, float("nan"), -1, "maybe", "", 2, 0.5]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("bad", BAD_LABELS, ids=str)
def test_labels_that_the_task_does_not_know(tmp_path: Path, ending: str, bad: Any) -> None:
    values = [0, 1, bad] if not isinstance(bad, str) else ["0", "1", bad]
    rows = [(f"text {number}", value) for number, value in enumerate(values)]
    with pytest.raises(DataError, match=r"1 of 3 labels of .* are unusable.*known: no, yes"):
        from_rows(tmp_path, rows, ending, labels=["no", "yes"]).split("train")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize("bad", [None, float("nan"), -1], ids=str)
def test_null_and_minus_one_are_no_labels(tmp_path: Path, ending: str, bad: Any) -> None:
    """The task names no labels: those of the file are taken, but "unlabelled" is not one of them."""
    rows = [(f"text {number}", [0, 1, bad][number % 3]) for number in range(30)]
    with pytest.raises(DataError, match="unusable|unlabelled"):
        from_rows(tmp_path, rows, ending).split("train")


def test_a_label_that_only_the_test_split_has(tmp_path: Path) -> None:
    train, test = write(tmp_path / "a.csv", ROWS), write(tmp_path / "b.csv", [("a", "yes"), ("b", "maybe")])
    with pytest.raises(DataError, match="'maybe'"):
        task(train=str(train), test=str(test)).split("test")


def test_decimals_are_no_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [(f"text {n}", n / 2) for n in range(12)], ("text", "label"))
    with pytest.raises(DataError, match="holds numbers with decimals") as caught:
        Task(resolve({"text": ["text"], "train": str(path)})).split("train")
    assert "--kind regression" in str(caught.value.hint)
    whole = write(tmp_path / "b.parquet", [(f"text {n}", float(n % 2)) for n in range(12)], ("text", "label"))
    assert Task(resolve({"text": ["text"], "train": str(whole)})).label_names == ["0", "1"]


def test_a_label_with_half_a_character_is_refused(tmp_path: Path) -> None:
    rows = "".join(f'{{"text": "t{number}", "label": "{name}"}}\n' for number, name in enumerate(["good", "bad \\ud800"] * 3))
    (tmp_path / "a.jsonl").write_text(rows, encoding="utf-8")
    with pytest.raises(DataError, match="half of a surrogate pair") as caught:
        _ = task(train=str(tmp_path / "a.jsonl")).label_names
    caught.value.message.encode("utf-8")
    with pytest.raises(CompressError, match="half of a surrogate pair"):
        resolve({"text": ["text"], "train": "a.csv", "labels": ["a", "b\udfff"]})
