"""`datasets.Dataset` objects as a task's data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

import compress
from compress.core import digests
from compress.core.errors import DataError, RecipeError
from compress.data.dataset_objects import SPLITS, dataset_splits
from compress.data.presets import resolve
from compress.data.task import Task

ROWS = {"sentence": [f"text {number}" for number in range(40)], "label": [number % 2 for number in range(40)]}
FIELDS: dict[str, Any] = {"text": ["sentence"], "label": "label"}


def labeled(names: list[str] | None = None, **rows: list[Any]) -> datasets.Dataset:
    """Return a data set whose labels have names."""
    label = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    return datasets.Dataset.from_dict({**ROWS, **rows}, features=datasets.Features({"sentence": datasets.Value("string"), "label": label}))


def task_of(data: Any, **fields: Any) -> Task:
    return Task(resolve({**FIELDS, **fields, "data": data}))


def test_a_dataset_dict_is_read_split_by_split() -> None:
    data = datasets.DatasetDict(train=labeled(["no", "yes"]), test=labeled(["no", "yes"]).select(range(5)))
    task = task_of(data)
    assert task.available == ["train", "validation", "test"]
    assert task.label_names == ["no", "yes"]
    assert task.split("test").texts == [(f"text {number}",) for number in range(5)]
    assert task.split("test").labels.tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("memory_mapped", [False, True])
def test_the_same_rows_in_a_file_give_the_same_examples(tmp_path: Path, memory_mapped: bool) -> None:
    data = labeled(["no", "yes"])
    data.to_parquet(tmp_path / "train.parquet")
    if memory_mapped:
        data.save_to_disk(tmp_path / "saved")
        data = datasets.load_from_disk(tmp_path / "saved")
    from_file = Task(resolve({**FIELDS, "train": str(tmp_path / "train.parquet")}))
    from_object = task_of(data)
    assert from_object.label_names == from_file.label_names == ["no", "yes"]
    for split in ("train", "validation"):
        assert from_object.split(split).texts == from_file.split(split).texts
        np.testing.assert_array_equal(from_object.split(split).labels, from_file.split(split).labels)


@pytest.mark.parametrize(
    ("split", "expected"), [("test", "test"), (None, "train"), ("unsupervised", "train"), ("validation[:50%]", "validation")]
)
def test_one_dataset_is_the_split_that_it_says(split: str | None, expected: str) -> None:
    data = datasets.Dataset.from_dict(ROWS, split=datasets.Split(split) if split else None)
    assert list(dataset_splits(data)) == [expected]


def test_other_splits_are_left_out_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    data = datasets.DatasetDict(unsupervised=labeled(), test=labeled(), train=labeled())
    assert list(dataset_splits(data)) == ["train", "test"]
    assert "not used: unsupervised" in capsys.readouterr().err


@pytest.mark.parametrize("data", [{}, {"train": [1, 2]}, [labeled()], labeled().to_iterable_dataset(), {"dev": labeled()}], ids=type)
def test_what_is_no_data_set_is_refused(data: Any) -> None:
    with pytest.raises(RecipeError, match="Dataset|called train"):
        task_of(data)


def test_a_data_set_alone_needs_its_columns() -> None:
    for alone in (datasets.DatasetDict(train=labeled()), labeled()):
        with pytest.raises(RecipeError, match="its columns are missing") as caught:
            compress.evaluate(["nowhere"], alone)
        assert "'text'" in str(caught.value.hint)


def test_data_is_one_source_among_the_others(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="exactly one of"):
        resolve({**FIELDS, "data": labeled(), "train": "a.csv"})


def test_a_presets_columns_on_other_data() -> None:
    task = Task(resolve({"preset": "sst2", "data": {"validation": labeled()}}))
    assert (task.spec.name, task.spec.hub, task.available) == ("sst2", None, ["validation"])
    assert task.label_names == ["negative", "positive"]
    with pytest.raises(RecipeError, match="'preset' takes 'data'"):
        resolve({"preset": "sst2", "data": labeled(), "max_length": 8})


def test_unlabelled_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 of 40 labels of .* are unusable, the first is -1"):
        task_of({"test": labeled(["no", "yes"], label=[-1, *ROWS["label"][1:]])}).split("test")


def test_a_transform_on_access_is_refused() -> None:
    data = labeled(["no", "yes"])
    data.set_transform(lambda batch: batch)
    with pytest.raises(DataError, match="transform that applies on access"):
        task_of(data).split("train")


def test_the_fingerprint_is_that_of_the_contents() -> None:
    base = task_of(labeled(["no", "yes"])).fingerprint
    mapped = labeled(["no", "yes"], sentence=["x"] * 40).map(lambda row, i: {"sentence": f"text {i}"}, with_indices=True)
    twice = datasets.concatenate_datasets([labeled(["no", "yes"]), labeled(["no", "yes"])])
    more = labeled(["no", "yes"]).add_column("more", ["x"] * 40)
    same = [labeled(["no", "yes"]), mapped, twice.select(range(40, 80)), twice.select(list(range(40))), more]
    assert {task_of(data).fingerprint for data in same} == {base}
    others = [
        labeled(["yes", "no"]),
        labeled(),
        labeled(["no", "yes"]).select(range(39)),
        labeled(["no", "yes"], sentence=[*ROWS["sentence"][1:], "text 0"]),
        datasets.DatasetDict(test=labeled(["no", "yes"])),
    ]
    assert len({base, *(task_of(data).fingerprint for data in others)}) == len(others) + 1


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    script = (
        "import datasets, json; from compress.data.presets import resolve; from compress.data.task import Task\n"
        f"rows = json.loads({json.dumps(json.dumps(ROWS))})\n"
        "names = datasets.ClassLabel(names=['no', 'yes'])\n"
        "data = datasets.Dataset.from_dict(rows).map(lambda row: row).cast_column('label', names)\n"
        f"print(Task(resolve({{**{FIELDS!r}, 'data': data}})).fingerprint)"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.split()[-1] == task_of(labeled(["no", "yes"])).fingerprint


def test_pairs_tags_and_spans() -> None:
    pairs = datasets.Dataset.from_dict({"a": ["x", "y"], "b": ["z", ""], "label": ["p", "q"]})
    assert Task(resolve({"text": ["a", "b"], "data": {"test": pairs}})).split("test").texts == [("x", "z"), ("y", "")]
    tags = datasets.List(datasets.ClassLabel(names=["O", "B"]))
    tokens = datasets.Dataset.from_dict(
        {"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [1]]},
        features=datasets.Features({"tokens": datasets.List(datasets.Value("string")), "tags": tags}),
    )
    task = Task(resolve({"kind": "token-classification", "text": ["tokens"], "label": "tags", "data": {"test": tokens}}))
    assert task.label_names == ["O", "B"]
    assert [row.tolist() for row in task.split("test").labels] == [[0, 1], [1]]
    answers = [{"text": ["dog"], "answer_start": [4]}]
    squad = datasets.Dataset.from_dict({"question": ["Who?"], "context": ["the dog"], "answers": answers})
    spans = Task(resolve({"kind": "question-answering", "text": ["question", "context"], "data": {"test": squad}}))
    assert spans.split("test").labels == [[(4, "dog")]]


def test_verbs_take_data_sets(checkpoint: Callable[..., Path], tiny_task: dict[str, Any], tmp_path: Path) -> None:
    """A model trained on data sets is the one trained on their files, and a second call finds it finished."""
    data = datasets.load_dataset("json", data_files={s: tiny_task[s] for s in SPLITS}, cache_dir=str(tmp_path / "cache"))
    fields = {key: value for key, value in tiny_task.items() if key not in SPLITS}
    options: dict[str, Any] = {"epochs": 1, "batch_size": 16}
    of_files = compress.finetune(checkpoint(), tiny_task, tmp_path / "files", **options)
    of_data = compress.finetune(checkpoint(), {**fields, "data": data}, tmp_path / "data", **options)
    assert of_data["metrics"] == of_files["metrics"]
    assert of_data["task"]["data"] == {split: f"datasets.Dataset of {len(data[split])} rows" for split in SPLITS}
    assert digests.digest_file(tmp_path / "data" / "model.safetensors") == digests.digest_file(tmp_path / "files" / "model.safetensors")
    assert compress.finetune(checkpoint(), {**fields, "data": data}, tmp_path / "data", **options)["created"] == of_data["created"]
    with pytest.raises(compress.CompressError, match="exists already"):
        compress.finetune(checkpoint(), {**fields, "data": data["train"]}, tmp_path / "data", **options)
