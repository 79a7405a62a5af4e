"""Statistics that say which dimensions and heads of a teacher matter most."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.data.presets import resolve
from compress.data.task import Task
from compress.distill.init_texts import InitTexts
from compress.distill.layer_statistics import collect_statistics, outlier_dimensions, select_heads
from compress.models.checkpoint import load_model
from compress.models.layers import encoder_layers
from tests import tiny


@pytest.fixture
def texts(tiny_task: dict[str, Any], checkpoint: Any) -> InitTexts:
    task = Task(resolve(tiny_task))
    return InitTexts(task.split("train"), checkpoint(), task.spec.input_spec, 0)


def test_statistics_are_sums_over_real_tokens(texts: InitTexts) -> None:
    model = load_model(texts.folder)
    statistics = collect_statistics(model, texts)
    inputs: list[torch.Tensor] = []
    first = next(iter(encoder_layers(model)))
    assert first.query is not None
    with torch.no_grad(), first.query.register_forward_hook(lambda module, args, output: inputs.append(args[0])):
        batches = texts.batches(model)
        for batch in batches:
            model(**batch)
    expected = sum(
        (states.double().square() * batch["attention_mask"][..., None]).sum((0, 1)) for states, batch in zip(inputs, batches, strict=True)
    )
    torch.testing.assert_close(statistics[0].inputs, expected)


def test_heads_that_write_nothing_are_not_selected(texts: InitTexts) -> None:
    model = load_model(texts.folder)
    size = tiny.HIDDEN // 4
    with torch.no_grad():
        for layer in encoder_layers(model):
            layer.attention_output.weight[:, size : 2 * size] = 0.0
    assert all(1 not in heads for heads in select_heads(model, collect_statistics(model, texts), 3))


def test_outlier_dimensions_have_large_gains_in_most_norms() -> None:
    model = tiny.make_model()
    assert outlier_dimensions(model) == []
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight[5] = 40.0
    assert outlier_dimensions(model) == [5]
