"""The model that a stage starts from: loaded, checked, matched with its task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core.errors import DataError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.editing.dense_model import DenseModel, load_dense_model
from tests import tiny
from tests.conftest import Maker


def loaded(source: Path, document: dict[str, Any]) -> DenseModel:
    return load_dense_model(source, Task(resolve(document)), 3, "prune")


def test_a_model_with_its_task(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    dense = loaded(checkpoint(), tiny_task)
    assert (dense.target, dense.seed, len(dense.shape.layers)) == ("class", 3, tiny.LAYERS)
    assert dense.classes.tolist() == [0, 1, 2]
    assert not dense.model.training


def test_labels_of_the_calibration_use_the_models_numbers(tiny_task: dict[str, Any], own_checkpoint: Maker) -> None:
    source = own_checkpoint()
    plain = loaded(source, tiny_task).calibration(None, 1000)
    names = [tiny.LABELS[number] for number in (2, 0, 1)]
    tiny.edit_config(source, id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)})
    permuted = loaded(source, tiny_task).calibration(None, 1000)
    assert plain.labeled
    assert permuted.labeled
    np.testing.assert_array_equal(permuted.data.labels, np.array([1, 2, 0])[plain.data.labels])


def test_unlabeled_texts_replace_the_training_split(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("red cat\nblue dog\n", encoding="utf-8")
    calibration = loaded(checkpoint(), tiny_task).calibration(str(tmp_path / "texts.txt"), 1000)
    assert not calibration.labeled
    assert len(calibration.data) == len(calibration.examples) == 2


def test_a_sample_is_no_larger_than_asked(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    calibration = loaded(checkpoint(), tiny_task).calibration(None, 7)
    assert len(calibration.data) == 7
    assert len(calibration.examples) == 60


def test_a_bilstm_is_refused(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="prune does not take a BiLSTM|prune"):
        loaded(tiny.write_bilstm(tmp_path / "lstm"), tiny_task)


def test_a_model_of_another_task_is_refused(tiny_task: dict[str, Any], own_checkpoint: Maker) -> None:
    with pytest.raises(DataError, match="does not know the label"):
        loaded(own_checkpoint(labels=["yes", "no", "maybe"]), tiny_task)
