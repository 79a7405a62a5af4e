"""Several teachers whose logits are averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from compress.core.errors import DataError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill.teachers import load_additional_teacher, load_teachers, mean_logits
from compress.models.checkpoint import load_model
from tests import tiny
from tests.unit.distill.helpers import inputs, run

Maker = Callable[..., Path]


def test_logits_of_teachers_with_other_families_and_label_orders_are_averaged(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    reversed_labels = tiny.write_checkpoint(tmp_path / "reversed_labels", "roberta", labels=tiny.LABELS[::-1])
    run(inputs(checkpoint(), "layers=2", tiny_task, reversed_labels), tmp_path / "out", method="logits")
    task, first = Task(resolve(tiny_task)), load_model(checkpoint())
    other = load_additional_teacher(reversed_labels, task, first, np.arange(3))
    assert other.order.tolist() == [2, 1, 0]
    logits = [np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]])]
    np.testing.assert_allclose(mean_logits(logits), [[2.0, 1.0]])


def test_a_teacher_without_a_label_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    other = tiny.write_checkpoint(tmp_path / "other", labels=["x", "y", "z"])
    with pytest.raises(DataError):
        load_teachers(checkpoint(), [other], Task(resolve(tiny_task)))


def test_vectors_of_several_embedders_are_not_averaged(tmp_path: Path) -> None:
    folders = [tiny.write_embedder(tmp_path / name) for name in "ab"]
    with pytest.raises(UsageError, match="vectors of several teachers cannot be averaged"):
        load_teachers(folders[0], folders[1:], Task(resolve(tiny.write_texts(tmp_path / "data"))))


def test_teachers_with_other_label_orders_are_matched_by_name_where_the_data_has_numbers(checkpoint: Maker, tmp_path: Path) -> None:
    reversed_labels = tiny.write_checkpoint(tmp_path / "reversed_labels", labels=tiny.LABELS[::-1])
    renamed = tiny.write_checkpoint(tmp_path / "renamed", labels=["x", "y", "z"])
    data = datasets.Dataset.from_dict({"text": ["x", "y", "z"], "label": [0, 1, 2]})
    spec = resolve({"text": ["text"], "data": {"train": data}})
    teachers = load_teachers(checkpoint(), [reversed_labels], Task(spec))
    assert teachers.additional[0].order.tolist() == [2, 1, 0]
    with pytest.raises(DataError, match="other names"):
        load_teachers(checkpoint(), [renamed], Task(spec))
