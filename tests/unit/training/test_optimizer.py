"""Rows of tables with sparse gradients are updated as Adam says; everything else is PyTorch's AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compress.training.optimizer import RowwiseAdamW, clip_gradients

IDS = torch.tensor([[1, 3, 3, 5], [5, 0, 1, 1]])


def model(sparse: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(8, 4, sparse=sparse), nn.Flatten(), nn.Linear(16, 2))


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int, limit: float = 1e9) -> list[float]:
    """Take steps on the same batch; returns the norms of the gradients."""
    norms = []
    for number in range(steps):
        loss = (network(IDS) * (number + 1)).square().sum()
        loss.backward()
        norms.append(clip_gradients(list(network.parameters()), limit))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norms


@pytest.mark.parametrize("limit", [1e9, 0.1])
def test_sparse_gradients_change_rows_as_dense_ones_do(limit: float) -> None:
    """All rows that ever have a gradient have one in every step, so lazy and dense moments are the same."""
    dense, sparse = model(False), model(True)
    norms = [train(network, RowwiseAdamW(network.parameters(), lr=0.1, weight_decay=0.0), 5, limit) for network in (dense, sparse)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
    for expected, parameter in zip(dense.parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-5)


def test_rows_without_a_gradient_stay() -> None:
    network = model(True)
    before = network[0].weight.detach().clone()
    train(network, RowwiseAdamW(network.parameters(), lr=0.1, weight_decay=0.5), 3)
    changed = (network[0].weight != before).any(1).nonzero().flatten().tolist()
    assert changed == [0, 1, 3, 5]


def test_dense_gradients_are_pytorchs_adamw() -> None:
    ours, theirs = model(False), model(False)
    options = {"lr": 0.1, "weight_decay": 0.1, "fused": True}
    train(ours, RowwiseAdamW(ours.parameters(), **options), 5)
    train(theirs, torch.optim.AdamW(theirs.parameters(), **options), 5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_saved_state_continues_with_the_same_numbers() -> None:
    network = model(True)
    optimizer = RowwiseAdamW(network.parameters(), lr=0.1, fused=True)
    train(network, optimizer, 2)
    resumed = copy.deepcopy(network)
    other = RowwiseAdamW(resumed.parameters(), lr=0.1, fused=True)
    other.load_state_dict({"state": copy.deepcopy(optimizer.state_dict()["state"]), "param_groups": other.state_dict()["param_groups"]})
    train(network, optimizer, 3)
    train(resumed, other, 3)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), resumed.parameters(), strict=True))
