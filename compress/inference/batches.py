"""Run a model over an encoded split, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded

Forward = Callable[[dict[str, np.ndarray]], np.ndarray]
"""From a padded batch of int64 arrays, (batch, length), to logits: (batch, classes), or (batch, length, classes) for tokens."""


def run_batches(
    forward: Forward,
    data: Encoded,
    batch_size: int = 32,
    label: str = "",
    dtype: type = np.float32,
    max_tokens: int | None = None,
    streams: int = 1,
) -> np.ndarray:
    """Run `forward` on every example, in batches of similar lengths, and return the outputs in the order of the data.

    Args:
        forward: the model.
        data: the encoded examples.
        batch_size: the most examples in a batch.
        label: title of a progress bar; no bar without one.
        dtype: of the result.
        max_tokens: the most tokens in a batch, padding included; no limit by default.
        streams: batches that are computed at the same time, by as many threads.

    Returns:
        (n, outputs) for one output vector per example. For one per token, (tokens, outputs) without padding: the tokens of window i
        are rows `data.starts[i] : data.starts[i + 1]`.
    """
    if len(data) == 1 and not label:  # as a server has it: without sorting and copying
        outputs = forward(data.batch([0])).astype(dtype, copy=False)
        return outputs if outputs.ndim == 2 else outputs[0]
    batches = evaluation_batches(data.lengths, batch_size, max_tokens)
    result = np.empty((0, 0), dtype=dtype)
    pool = ThreadPoolExecutor(streams) if streams > 1 and len(batches) > 1 else None
    with pool or nullcontext(), console.progress(label, len(batches)) if label else nullcontext(lambda: None) as advance:
        computed = (pool.map if pool else map)(lambda positions: forward(data.batch(positions)), batches)
        for number, (positions, outputs) in enumerate(zip(batches, computed, strict=True)):
            if number == 0:
                rows = len(data) if outputs.ndim == 2 else int(data.starts[-1])
                result = np.empty((rows, outputs.shape[-1]), dtype=dtype)
            if outputs.ndim == 2:
                result[positions] = outputs
            else:
                for row, i in enumerate(positions):
                    result[data.starts[i] : data.starts[i + 1]] = outputs[row, : data.lengths[i]]
            advance()
    return result
