"""Folders and patterns of shards, and folders of `save_to_disk`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from compress.core.errors import DataError
from compress.data import tables
from compress.data.local_sources import local_source
from compress.data.presets import resolve
from compress.data.task import Task


def texts_of(path: Path | str, split: str = "train") -> list[Any]:
    return [text for batch in local_source(str(path), split).batches(["text"]) for text in batch["text"]]


def write(path: Path, *texts: str, column: str = "text") -> Path:
    path.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame({column: texts, "label": [0, 1][: len(texts)]})
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path, ending: str) -> None:
    for number in (1, 0):
        write(tmp_path / "data" / f"train-{number}.{ending}", f"{number}a", f"{number}b")
    write(tmp_path / "data" / f"test-0.{ending}", "test")
    (tmp_path / "data" / "README.md").touch()
    expected = ["0a", "0b", "1a", "1b"]
    assert texts_of(tmp_path / "data") == texts_of(f"{tmp_path}/data/train-*.{ending}") == texts_of(f"{tmp_path}/*/train*") == expected
    assert texts_of(tmp_path / "data", "test") == ["test"]
    with pytest.raises(DataError, match=r"files of other splits \(train, test\), and none of validation"):
        local_source(str(tmp_path / "data"), "validation")
    task = resolve({"text": ["text"], "train": str(tmp_path / "data"), "test": str(tmp_path / "data" / f"test-*.{ending}")})
    assert [len(Task(task).split("test")), Task(task)._sources["train"].where[-16:]] == [1, " and 1 more files"[-16:]]


def test_what_is_no_folder_of_shards(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no table"):
        local_source(str(tmp_path / "empty"), "train")
    with pytest.raises(DataError, match="no file fits"):
        local_source(f"{tmp_path}/*.csv", "train")
    write(tmp_path / "mixed" / "a.csv", "x")
    write(tmp_path / "mixed" / "b.parquet", "x")
    with pytest.raises(DataError, match="several kinds: csv, parquet"):
        local_source(str(tmp_path / "mixed"), "train")
    write(tmp_path / "other" / "a.csv", "x")
    write(tmp_path / "other" / "b.csv", "x", column="sentence")
    with pytest.raises(DataError, match=r"b\.csv has no column 'text'"):
        local_source(str(tmp_path / "other"), "train").column_names(["text"])


def test_folders_of_save_to_disk(tmp_path: Path) -> None:
    label = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    one = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=label)
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one, "test": one.select([1])}).save_to_disk(tmp_path / "many")
    assert texts_of(tmp_path / "one") == texts_of(tmp_path / "many") == ["a", "b"]
    assert texts_of(tmp_path / "many", "test") == ["b"]
    assert Task(resolve({"text": ["text"], "train": str(tmp_path / "many")})).label_names == ["no", "yes"]
    with pytest.raises(DataError, match="no validation split.*it has: train, test"):
        local_source(str(tmp_path / "many"), "validation")
    (tmp_path / "one" / "dataset_info.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read as a data set of save_to_disk"):
        local_source(str(tmp_path / "one"), "train")


def test_a_parquet_file_that_claims_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", "a", "b")
    monkeypatch.setattr(tables, "MAX_FREE_ROWS", 1)
    monkeypatch.setattr(tables, "MAX_PARQUET_RATIO", 0)
    with pytest.raises(DataError, match=r"x\.parquet claims 2 rows"):
        local_source(str(path), "train").size()
