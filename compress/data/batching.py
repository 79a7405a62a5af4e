"""Group examples of similar length into batches, so that little is padded."""

from __future__ import annotations

import numpy as np

POOL_BATCHES = 50  # batches shuffled together before sorting by length: random enough, padded little


def training_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffle, sort by length within pools of many batches, cut into batches, shuffle those: positions of each batch."""
    order = rng.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        chunk = order[start : start + pool]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, batch_size: int, max_tokens: int | None = None) -> list[np.ndarray]:
    """Sort by length and cut into batches: positions of each batch, every example once.

    Args:
        lengths: tokens of each example.
        batch_size: examples in a batch, at most.
        max_tokens: tokens in a batch, padding included, at most; an example that is longer makes a batch of its own.
    """
    order = np.argsort(lengths, kind="stable")
    if max_tokens is None:
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    batches: list[np.ndarray] = []
    start = 0
    for position in range(1, len(order) + 1):  # sorted, so that the last one is the longest
        full = position - start == batch_size
        if position == len(order) or full or (position - start + 1) * lengths[order[position]] > max_tokens:
            batches.append(order[start:position])
            start = position
    return batches
