"""Calibration: run the float graph over examples and count the values that its matmuls read.

The graph runs batch by batch with those values as further outputs; a batch is counted and dropped, so memory is bounded.
Padding is left out: its values are never used, and would only widen the ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.export.graph_editing import expose_values
from compress.inference.onnx_session import open_session, run_arrays
from compress.quantize.ranges import Histogram

BATCH_TOKENS = 1024  # only the activations of one batch are held at a time


def stream_activations(model: onnx.ModelProto, names: Sequence[str], data: Encoded, label: str) -> Iterator[dict[str, np.ndarray]]:
    """Run a graph over all examples and yield the named values of each batch: (n, channels) of its tokens without padding.

    Args:
        model: the graph.
        names: of intermediate values.
        data: the examples.
        label: title of the progress bar.
    """
    session = open_session(expose_values(model, names).SerializeToString(), None, "cpu", {})
    batches = evaluation_batches(data.lengths, max(1, BATCH_TOKENS // int(data.lengths.max())))
    with console.progress(label, len(batches)) as advance:
        for positions in batches:
            batch = data.batch(positions)
            values = run_arrays(session, names, batch)
            yield {name: without_padding(value, batch["attention_mask"]) for name, value in zip(names, values, strict=True)}
            advance()


def without_padding(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the rows of real tokens, (n, channels).

    Args:
        value: (batch, length, channels), or the rows of all tokens. A value with another number of rows (first tokens only)
            has no padding.
        mask: the attention mask, (batch, length).
    """
    rows = value.reshape(-1, value.shape[-1])
    return rows[mask.astype(bool).ravel()] if len(rows) == mask.size else rows


def activation_histograms(model: onnx.ModelProto, names: Sequence[str], data: Encoded) -> dict[str, Histogram]:
    """Return the histogram of each named value over all real tokens of the examples."""
    histograms = {name: Histogram() for name in names}
    if histograms:
        for values in stream_activations(model, list(histograms), data, "calibrating"):
            for name, rows in values.items():
                histograms[name].add(rows)
    return histograms
