"""From files, the hub's cache and builtin corpora to checked examples."""

from __future__ import annotations

import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import DataError, ResourceError
from compress.data import resolve
from compress.data.examples import Examples, overlap
from compress.data.tables import file_format
from compress.data.task import Task
from tests import tiny

ROWS = [
    ("a plain text", "yes"),
    ("quotes \" and ' and, commas", "no"),
    ("tabs are\tspaces; emoji 😀, 東京, é", "yes"),
    ("NA", "no"),
    ("null", "yes"),
    ("1.0", "no"),
    ("2024-01-31", "yes"),
    ("  spaces around  ", "no"),
    ("-", "yes"),
    ("true", "no"),
]
FORMATS = ["parquet", "csv", "csv.gz", "tsv", "jsonl", "ndjson", "json"]


def write(path: Path, rows: list[Any], columns: tuple[str, ...] = ("text", "label")) -> Path:
    """Write rows by the file's ending."""
    name = path.name.removesuffix(".gz")
    if name.endswith("parquet"):
        pd.DataFrame(rows, columns=list(columns)).to_parquet(path)
    elif name.endswith(("csv", "tsv")):
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter="\t" if name.endswith("tsv") else ",").writerows([columns, *rows])
    else:
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def task(**fields: Any) -> Task:
    """Make a task of one text column, `text`."""
    return Task(resolve({"text": ["text"], **fields}))


def from_rows(folder: Path, rows: list[Any], ending: str = "parquet", **fields: Any) -> Task:
    """Write rows as a training file, with a small validation file beside it, and open the task."""
    train = write(folder / f"train.{ending}", rows)
    validation = write(folder / "validation.parquet", ROWS)
    return task(train=str(train), validation=str(validation), **fields)


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    found = from_rows(tmp_path, ROWS, ending)
    assert found.label_names == ["no", "yes"]
    examples = found.split("train")
    assert examples.texts == [(text,) for text, _ in ROWS]
    assert examples.labels.tolist() == [int(label == "yes") for _, label in ROWS]
    assert examples.labels.dtype == np.int64


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


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_file_without_rows(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a.{ending}", [])
    with pytest.raises(DataError, match="has no rows"):
        task(train=str(path)).split("train")


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


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_missing_text_is_counted(tmp_path: Path, ending: str) -> None:
    rows = [*ROWS, (None, "yes"), (None, "no")]
    with pytest.raises(DataError, match="2 of 12 rows of .* have no text in column 'text'"):
        from_rows(tmp_path, rows, ending).split("train")


def test_labels_that_are_lists_are_data_errors(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": [1]}\n{"text": "b", "label": {"x": 2}}\n', encoding="utf-8")
    with pytest.raises(DataError):
        task(train=str(tmp_path / "a.jsonl"), labels=["no", "yes"]).split("train")


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


@given(st.lists(st.integers(0, 9), max_size=10))
def test_taking_examples_keeps_texts_and_labels_together(positions: list[int]) -> None:
    examples = Examples([(f"text {number}",) for number in range(10)], np.arange(10) * 10)
    taken = examples.take(positions)
    assert taken.texts == [(f"text {number}",) for number in positions]
    assert taken.labels.tolist() == [10 * number for number in positions]
    assert len(taken) == len(positions)


def test_overlap_counts_equal_texts() -> None:
    first = Examples([("a", "b"), ("c", "d")], np.zeros(2, dtype=int))
    second = Examples([("a", "b"), ("b", "a"), ("a", "b"), ("e", "f")], np.zeros(4, dtype=int))
    assert overlap(first, second) == 2


COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache of this test's own that holds `nyu-mll/glue`, as the hub client lays it out."""
    root = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(root))
    folder = root / "datasets--nyu-mll--glue"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    (folder / "blobs").mkdir()
    snapshot = folder / "snapshots" / COMMIT / "sst2"
    snapshot.mkdir(parents=True)
    rows = [(f"sentence {number}", number % 2) for number in range(12)]
    for name, part in {
        "train-00000-of-00002": rows[:5],
        "train-00001-of-00002": rows[5:10],
        "validation-00000-of-00001": rows[10:],
        "test-00000-of-00001": [("hidden", -1)],
    }.items():
        blob = write(folder / "blobs" / f"{name}.parquet", part, ("sentence", "label"))
        (snapshot / f"{name}.parquet").symlink_to(blob)
    return root


def test_a_hub_data_set_comes_from_the_cache(hub_cache: Path) -> None:
    found = Task(resolve("sst2"))
    assert found.available == ["train", "validation"]
    assert found.split("train").texts == [(f"sentence {number}",) for number in range(10)]  # both files, in order
    assert found.split("train").labels.tolist() == [0, 1] * 5
    assert found.split("validation").texts == [("sentence 10",), ("sentence 11",)]
    assert found.label_names == ["negative", "positive"]


def test_unlabelled_rows_of_the_hub_are_refused(hub_cache: Path) -> None:
    spec = resolve("sst2")
    assert spec.hub is not None
    hidden = spec.model_copy(update={"hub": spec.hub.model_copy(update={"test": "sst2/test-*.parquet"})})
    with pytest.raises(DataError, match=r"1 of 1 labels of .* are unusable, the first is -1"):
        Task(hidden).split("test")


def test_a_hub_data_set_without_the_files(hub_cache: Path) -> None:
    with pytest.raises(DataError, match=r"nyu-mll/glue has no file 'mrpc/train-\*\.parquet' for the train split"):
        Task(resolve("mrpc")).split("train")


def test_offline_with_a_cold_cache_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cold"))
    started = time.monotonic()
    with pytest.raises(ResourceError, match="offline, and the dataset nyu-mll/glue is not in the cache") as caught:
        Task(resolve("sst2")).split("train")
    assert caught.value.exit_code == 5
    assert time.monotonic() - started < 2


def test_local_files_take_the_place_of_a_presets_data(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.tsv", [("good", 1), ("bad", 0)], ("sentence", "label"))
    found = Task(resolve("sst2").with_files({"validation": str(path)}))
    assert found.available == ["validation"]
    assert found.split("validation").labels.tolist() == [1, 0]


def test_the_tiny_task_is_learnable_and_disjoint(tiny_task: dict[str, Any]) -> None:
    found = Task(resolve(tiny_task))
    assert [len(found.split(name)) for name in found.available] == [60, 24, 24]
    assert overlap(found.split("train"), found.split("test")) == 0
    assert found.label_names == tiny.LABELS


def test_decimals_are_no_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [(f"text {n}", n / 2) for n in range(12)], ("text", "label"))
    with pytest.raises(DataError, match="holds numbers with decimals") as caught:
        Task(resolve({"text": ["text"], "train": str(path)})).split("train")
    assert "--kind regression" in str(caught.value.hint)
    whole = write(tmp_path / "b.parquet", [(f"text {n}", float(n % 2)) for n in range(12)], ("text", "label"))
    assert Task(resolve({"text": ["text"], "train": str(whole)})).label_names == ["0", "1"]
