"""The sample of texts that decides how a student is initialised."""

from __future__ import annotations

from typing import Any

import pytest

from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill.init_texts import BATCH, InitTexts
from compress.distill.students import take_layers
from compress.models.checkpoint import load_model


@pytest.fixture
def texts(tiny_task: dict[str, Any], checkpoint: Any) -> InitTexts:
    task = Task(resolve(tiny_task))
    return InitTexts(task.split("train"), checkpoint(), task.spec.input_spec, 0)


def test_the_sample_has_all_of_few_texts(texts: InitTexts) -> None:
    batches = texts.batches(load_model(texts.folder))
    assert sum(len(batch["input_ids"]) for batch in batches) == len(texts.examples) == 60
    assert max(len(batch["input_ids"]) for batch in batches) == BATCH


def test_the_divergence_is_zero_at_the_teacher_only(texts: InitTexts) -> None:
    teacher = load_model(texts.folder)
    assert texts.divergence(teacher, teacher) == pytest.approx(0, abs=1e-7)
    assert texts.divergence(take_layers(teacher, 1), teacher) > 1e-6
