"""Calibration texts and the measures on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.data import resolve
from compress.data.task import Task
from compress.distill.calibration import BATCH, Calibration
from compress.distill.layer_statistics import collect_statistics, outlier_dimensions, select_heads
from compress.distill.students import take_layers
from compress.models.checkpoint import load_model
from compress.models.layers import encoder_layers
from tests import tiny


@pytest.fixture
def calibration(tiny_task: dict[str, Any], checkpoint: Any) -> Calibration:
    task = Task(resolve(tiny_task))
    return Calibration(task.split("train"), checkpoint(), task.spec.input_spec, 0)


def test_the_sample_has_all_of_few_texts(calibration: Calibration) -> None:
    batches = calibration.batches(load_model(calibration.folder))
    assert sum(len(batch["input_ids"]) for batch in batches) == len(calibration.examples) == 60
    assert max(len(batch["input_ids"]) for batch in batches) == BATCH


def test_the_divergence_is_zero_at_the_teacher_only(calibration: Calibration) -> None:
    teacher = load_model(calibration.folder)
    assert calibration.divergence(teacher, teacher) == pytest.approx(0, abs=1e-7)
    assert calibration.divergence(take_layers(teacher, 1), teacher) > 1e-6


def test_statistics_are_sums_over_real_tokens(calibration: Calibration) -> None:
    model = load_model(calibration.folder)
    statistics = collect_statistics(model, calibration)
    inputs: list[torch.Tensor] = []
    first = next(iter(encoder_layers(model)))
    assert first.query is not None
    with torch.no_grad(), first.query.register_forward_hook(lambda module, args, output: inputs.append(args[0])):
        batches = calibration.batches(model)
        for batch in batches:
            model(**batch)
    expected = sum(
        (states.double().square() * batch["attention_mask"][..., None]).sum((0, 1)) for states, batch in zip(inputs, batches, strict=True)
    )
    torch.testing.assert_close(statistics[0].inputs, expected)


def test_heads_that_write_nothing_are_not_selected(calibration: Calibration) -> None:
    model = load_model(calibration.folder)
    size = tiny.HIDDEN // 4
    with torch.no_grad():
        for layer in encoder_layers(model):
            layer.attention_output.weight[:, size : 2 * size] = 0.0
    assert all(1 not in heads for heads in select_heads(model, collect_statistics(model, calibration), 3))


def test_outlier_dimensions_have_large_gains_in_most_norms() -> None:
    model = tiny.make_model()
    assert outlier_dimensions(model) == []
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight[5] = 40.0
    assert outlier_dimensions(model) == [5]
