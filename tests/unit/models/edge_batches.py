"""Batches at the edges of what an encoder reads, and the comparison of forward functions on them, for families with blocks of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from compress.models.device import to_tensors
from tests import tiny


def edge_batches(family: str) -> list[dict[str, np.ndarray]]:
    """Return batches of real tokens: of mixed lengths, one alone, with much padding, and of the longest text."""
    data = tiny.encoded(family)
    longest = {"input_ids": np.tile(np.arange(8, 72), (1, 2)), "attention_mask": np.ones((1, tiny.POSITIONS), dtype=np.int64)}
    longest["token_type_ids"] = np.repeat([[0, 1]], tiny.POSITIONS // 2, axis=1) * (tiny.CONFIGS[family].get("type_vocab_size", 0) > 1)
    one = {name: array[:1, :1] for name, array in data.batch([0]).items()}
    return [data.batch(range(12)), one, data.batch(range(4), pad_to=tiny.POSITIONS), longest]


def assert_same(family: str, expected: Any, *others: Any) -> None:
    """Compare forward functions on every batch, where tokens are no padding."""
    for batch in edge_batches(family):
        mask, right = batch["attention_mask"].astype(bool), expected(batch)
        for other in others:
            found = other(batch)
            left, wanted = (found[mask], right[mask]) if right.ndim == 3 else (found, right)
            np.testing.assert_allclose(left, wanted, rtol=0, atol=1e-4)


def calibration(family: str, model: Any, count: int = 12) -> list[Any]:
    """Return texts in batches of four, as tensors."""
    data = tiny.encoded(family, count)
    return [to_tensors(data.batch(range(start, start + 4)), model, torch.device("cpu")) for start in range(0, count, 4)]
