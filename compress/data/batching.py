"""Group examples of similar length into batches, so that little is padded."""

from __future__ import annotations

import numpy as np

POOL_BATCHES = 50  # batches that are shuffled together before sorting by length: random enough, little padding


def training_batches(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the positions of each batch of an epoch, in random order.

    Examples are shuffled, sorted by length within pools of `POOL_BATCHES` batches and cut into batches, which are shuffled.

    Args:
        lengths: (n,) tokens of each example.
        batch_size: examples in a batch; the last one of a pool may have fewer.
        rng: source of randomness.
    """
    order = rng.permutation(len(lengths))
    pool = batch_size * POOL_BATCHES
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        chunk = order[start : start + pool]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_batches(lengths: np.ndarray, batch_size: int, max_tokens: int | None = None) -> list[np.ndarray]:
    """Return the positions of each batch, sorted by length; every example occurs once.

    Args:
        lengths: (n,) tokens of each example.
        batch_size: examples in a batch, at most.
        max_tokens: tokens in a batch, padding included, at most; a longer example is a batch of its own.
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
