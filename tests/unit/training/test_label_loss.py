"""The loss of a model on labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.models.device import to_tensors
from compress.training.label_loss import loss_on_labels
from tests import tiny

CPU = torch.device("cpu")


def test_it_is_the_cross_entropy_of_the_examples_at_these_positions() -> None:
    model, data, positions = tiny.make_model(), tiny.encoded(), np.array([5, 0, 3])
    steps: list[int] = []
    loss = loss_on_labels(model, data, "class", CPU, steps.append)
    batch = to_tensors(data.batch(positions), model, CPU)
    with torch.no_grad():
        expected = functional.cross_entropy(model(**batch).logits, torch.from_numpy(data.labels[positions]))
        assert float(loss.function(batch, positions)) == pytest.approx(float(expected))
    assert loss.item_count(positions) == 3
    assert loss.before_step is not None
    loss.before_step(4)
    assert steps == [4]


def test_the_model_may_be_any_function_of_a_batch() -> None:
    model, data = tiny.make_model(), tiny.encoded()
    received: list[set[str]] = []

    def forward(**batch: torch.Tensor) -> Any:
        received.append(set(batch))
        return model(**batch)

    positions = np.arange(2)
    loss_on_labels(forward, data, "class", CPU).function(to_tensors(data.batch(positions), model, CPU), positions)
    assert "input_ids" in received[0]
