"""Data sets of the hub, from its cache."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from compress.core.errors import DataError, ResourceError
from compress.data.presets import resolve
from compress.data.task import Task
from tests.unit.data.task_rows import write

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
