"""Sparse weights: exact patterns, and corrections that are worth it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.prune.search import Kept
from compress.prune.sparse import DAMPING, sparse_weight, sparsify, zipped_bytes
from compress.prune.surgery import slice_model
from tests import tiny

CPU = torch.device("cpu")
PATTERNS: list[Any] = ["unstructured", "2:4"]


def problem(width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (8, width) and the Gram matrix of correlated inputs."""
    torch.manual_seed(0)
    inputs = torch.randn(400, 4) @ torch.randn(4, width) + 0.3 * torch.randn(400, width)
    return torch.randn(8, width), (inputs.T @ inputs).double()


def error(weight: torch.Tensor, other: torch.Tensor, gram: torch.Tensor) -> float:
    """Squared error of the outputs."""
    difference = (weight - other).double()
    return float((difference @ gram * difference).sum())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_exact_and_better_than_magnitude(pattern: Any) -> None:
    weight, gram = problem()
    found = sparse_weight(weight, gram, pattern, 0.5)
    assert ((found == 0).sum(1) == 16).all()
    if pattern == "2:4":
        assert ((found.reshape(8, -1, 4) == 0).sum(2) == 2).all()
    groups = weight.abs().reshape(8, -1, 4 if pattern == "2:4" else 32)
    smallest = groups.argsort(dim=2)[..., : groups.shape[2] // 2]
    plain = torch.where(torch.zeros_like(groups, dtype=torch.bool).scatter_(2, smallest, True).reshape(8, 32), 0.0, weight)
    assert error(weight, found, gram) < 0.7 * error(weight, plain, gram)


def test_one_weight_gone_is_the_least_squares_correction() -> None:
    """Of a first column: the others move as (H^-1)_1: / (H^-1)_11 says."""
    _, gram = problem(4)
    row = torch.tensor([[1e-6, 3.0, -2.0, 1.0]])
    found = sparse_weight(row, gram, "unstructured", 0.25)
    inverse = torch.linalg.inv(gram + DAMPING * gram.diagonal().mean() * torch.eye(4))
    expected = row.double() - row[0, 0] / inverse[0, 0] * inverse[:1]
    assert found[0, 0] == 0
    torch.testing.assert_close(found.double()[0, 1:], expected[0, 1:], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_family_keeps_its_shape_and_gets_its_zeros(family: str, pattern: Any) -> None:
    model = tiny.make_model(family)
    slice_model(model, [Kept([0, 3], list(range(0, 64, 2))), Kept([], [2, 40, 41, 50]), Kept([1], [])])
    data = tiny.encoded(family, 12)
    batches = [to_tensors(data.batch(range(start, start + 6)), model, CPU) for start in (0, 6)]
    before, zipped = copy.deepcopy(model), zipped_bytes(model)
    zeros = sparsify(model, batches, pattern)
    assert set(zeros.values()) == {0.5}
    assert zipped_bytes(model) < 0.75 * zipped
    for old, new in zip(encoder_layers(before), encoder_layers(model), strict=True):
        assert old.ffn_in.weight.shape == new.ffn_in.weight.shape
        assert torch.equal(old.ffn_in.bias, new.ffn_in.bias)
    assert torch.isfinite(model(**batches[0]).logits).all()
