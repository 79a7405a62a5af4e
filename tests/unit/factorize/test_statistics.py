"""Statistics of linears over batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.factorize.statistics import Statistics, activation_statistics, fisher_statistics
from compress.models.device import to_tensors
from compress.models.task_loss import logits_of, task_loss
from tests import tiny


def test_padding_does_not_count(family: str) -> None:
    model, data = tiny.make_model(family), tiny.encoded(family)
    device = torch.device("cpu")

    def loss_of(batch: Any) -> torch.Tensor:
        labels = torch.zeros(len(batch["input_ids"]), dtype=torch.int64)
        return task_loss(logits_of(model(**batch)), labels, batch["attention_mask"], "class", summed=True)

    batches = [[to_tensors(data.batch(range(12), pad_to), model, device)] for pad_to in (None, 60)]
    for gather in (activation_statistics, lambda model, batches: fisher_statistics(model, batches, loss_of)):
        short, padded = (gather(model, batch) for batch in batches)
        for first, second in zip(short, padded, strict=True):
            torch.testing.assert_close(first.gram, second.gram, rtol=1e-3, atol=1e-3 * float(first.gram.abs().max()))
            assert first.weight == pytest.approx(second.weight, rel=1e-3)


def test_statistics_are_sums_over_tokens() -> None:
    rows, linear = torch.randn(7, 5), torch.nn.Linear(5, 3)
    statistics = Statistics.empty(linear, outputs=False)
    statistics.add(rows[:3])
    statistics.add(rows[3:])
    torch.testing.assert_close(statistics.gram, (rows.T @ rows).double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(statistics.mean, rows.mean(0).double())
    centred = rows - rows.mean(0)
    torch.testing.assert_close(statistics.centred(), (centred.T @ centred).double(), rtol=1e-4, atol=1e-4)
