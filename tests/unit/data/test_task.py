"""The splits of a task: given, held out or missing; and its fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core import console
from compress.core.errors import DataError
from compress.data.examples import overlap
from compress.data.presets import resolve
from compress.data.task import Task
from tests import tiny
from tests.unit.data.retrieval_files import write_beir, write_lines
from tests.unit.data.task_rows import ROWS, from_rows, task, write


def many(count: int) -> list[tuple[str, str]]:
    """Return rows of three classes, unevenly."""
    return [(f"text {number}", "abc"[0 if number % 10 else 1 + number // 10 % 2]) for number in range(count)]


def test_validation_is_held_out_of_train_where_there_is_none(tmp_path: Path) -> None:
    rows = many(200)
    path = str(write(tmp_path / "a.parquet", rows))
    found = task(train=path)
    train, validation = found.split("train"), found.split("validation")
    assert found.available == ["train", "validation"]
    assert len(validation) == 20
    assert sorted(train.texts + validation.texts) == sorted((text,) for text, _ in rows)
    assert np.bincount(validation.labels).tolist() == [18, 1, 1]  # stratified
    again = task(train=path)
    assert again.split("validation").texts == validation.texts
    assert again.split("train").texts == train.texts


def test_what_is_held_out_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    found = task(train=str(write(tmp_path / "a.parquet", many(100))))
    for split in ("train", "validation"):
        numbers = [int(text.split()[1]) for (text,) in found.split(split).texts]
        assert numbers == sorted(numbers)


def test_a_given_validation_split_is_used_as_it_is(tmp_path: Path) -> None:
    found = from_rows(tmp_path, many(50), labels=["a", "b", "c", "yes", "no"])
    assert len(found.split("train")) == 50
    assert found.split("validation").texts == [(text,) for text, _ in ROWS]


@pytest.mark.parametrize("count", [10, 11, 13, 19, 31])
def test_small_files_can_be_held_out_of(tmp_path: Path, count: int) -> None:
    found = task(train=str(write(tmp_path / "a.csv", [(f"t{number}", "xy"[number % 2]) for number in range(count)])))
    assert len(found.split("train")) + len(found.split("validation")) == count
    assert len(found.split("validation")) >= 1


def test_a_class_with_one_row_does_not_stop_the_hold_out(tmp_path: Path) -> None:
    found = task(train=str(write(tmp_path / "a.csv", [*((f"t{number}", "xy"[number % 2]) for number in range(50)), ("once", "z")])))
    assert len(found.split("validation")) == 6


def test_too_few_rows_to_hold_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few"):
        task(train=str(write(tmp_path / "a.csv", ROWS[:9]))).split("validation")


def test_splits_that_are_not_there_name_those_that_are(tmp_path: Path) -> None:
    found = task(test=str(write(tmp_path / "a.csv", ROWS)))
    assert found.available == ["test"]
    with pytest.raises(DataError, match=r"no train split \(it has: test\)"):
        found.split("train")


@pytest.mark.parametrize(
    ("splits", "wanted", "expected"),
    [
        (("train", "test"), "auto", "test"),
        (("train", "validation"), "auto", "validation"),
        (("train",), "auto", "validation"),
        (("train", "test"), "train", "train"),
    ],
)
def test_evaluation_split(tmp_path: Path, splits: tuple[str, ...], wanted: str, expected: str) -> None:
    path = str(write(tmp_path / "a.csv", ROWS))
    assert task(**dict.fromkeys(splits, path)).evaluation_split(wanted) == expected


def test_fingerprint_changes_with_data_and_reading_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    fields: dict[str, Any] = {"train": str(path), "labels": ["no", "yes"]}
    base = task(**fields).fingerprint
    assert task(**fields).fingerprint == base
    assert task(**fields, name="other", description="words").fingerprint == base
    copied = write(tmp_path / "b.csv", ROWS)
    assert task(**fields | {"train": str(copied)}).fingerprint == base  # the same contents elsewhere
    others = [
        task(**fields, max_length=64).fingerprint,
        task(**fields, metrics=["macro_f1"]).fingerprint,
        task(**fields | {"labels": ["yes", "no"]}).fingerprint,
        task(**fields, test=str(path)).fingerprint,
        task(validation=str(path), labels=["no", "yes"]).fingerprint,
        Task(resolve({"text": ["label"], "label": "text", **fields})).fingerprint,
    ]
    write(path, [*ROWS, ("one more", "no")])
    others.append(task(**fields).fingerprint)
    assert len({base, *others}) == len(others) + 1


def test_local_files_take_the_place_of_a_presets_data(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tsv", [("good", 1), ("bad", 0)], ("sentence", "label"))
    found = Task(resolve("sst2").with_files({"validation": str(path)}))
    assert found.available == ["validation"]
    assert found.split("validation").labels.tolist() == [1, 0]


def test_a_query_that_is_also_a_document_is_no_training_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_beir(tmp_path)
    write_lines(folder / "queries.jsonl", [{"_id": name, "text": "heat in slabs"} for name in ("q1", "q2", "q3")])
    found = Task(resolve({"kind": "sentence-embedding", "beir": str(folder)}))
    assert overlap(found.split("train"), found.split("test")) == 2
    console.configure()
    found.warn_of_overlap()
    assert "training examples" not in capsys.readouterr().err


def test_the_tiny_task_is_learnable_and_disjoint(tiny_task: dict[str, Any]) -> None:
    found = Task(resolve(tiny_task))
    assert [len(found.split(name)) for name in found.available] == [60, 24, 24]
    assert overlap(found.split("train"), found.split("test")) == 0
    assert found.label_names == tiny.LABELS
