"""The texts that a student learns from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.presets import resolve
from compress.data.task import Task
from compress.data.texts import examples_from_texts
from compress.distill.teachers import load_teachers
from compress.distill.training_data import training_texts, with_teacher_outputs
from compress.models.inputs import encode_for
from compress.settings import DistillSettings
from compress.training.loop import TrainingPlan
from tests import tiny

Maker = Callable[..., Path]


def plan(**settings: Any) -> TrainingPlan[DistillSettings]:
    return TrainingPlan(DistillSettings.model_validate({"device": "cpu", **settings}), 0)


@pytest.mark.parametrize(
    ("settings", "unlabeled", "count", "labeled"),
    [({}, 0, 60, True), ({"augment": 2}, 0, 180, False), ({}, 5, 65, False), ({"augment": 1}, 5, 130, False)],
)
def test_texts_are_labeled_unless_some_are_added(
    settings: dict[str, Any], unlabeled: int, count: int, labeled: bool, tiny_task: dict[str, Any], checkpoint: Maker
) -> None:
    task = Task(resolve(tiny_task))
    extra = examples_from_texts([("the red fox",)] * unlabeled, task.spec.input_spec) if unlabeled else None
    examples, all_labeled = training_texts(task, extra, plan(**settings), [checkpoint()])
    assert (len(examples), all_labeled) == (count, labeled)


def test_logits_are_the_mean_in_the_first_teachers_order(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    task = Task(resolve(tiny_task))
    other = tiny.write_checkpoint(tmp_path / "other", labels=tiny.LABELS[::-1], seed=3)
    examples = task.split("validation")
    data = encode_for(checkpoint(), examples, task.spec.input_spec)

    def logits(first: Path, *more: Path) -> np.ndarray:
        teachers = load_teachers(first, more, task)
        training_data = with_teacher_outputs(examples, data, checkpoint(), teachers, task.spec.input_spec, [], plan(), labeled=True)
        assert training_data.same_tokens.all()
        return training_data.outputs.logits

    np.testing.assert_allclose(logits(checkpoint(), other), (logits(checkpoint()) + logits(other)[:, ::-1]) / 2, atol=1e-6)
