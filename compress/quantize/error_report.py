"""What a smaller form does to each product: the error of its output, the range of what it reads, and how much of that is cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.inference.onnx_session import open_session
from compress.quantize.calibrate import BATCH_TOKENS, expose_values, real_rows
from compress.quantize.matmuls import find_matmuls
from compress.quantize.variants import CALIBRATED, GraphVariants

EXAMPLES = 64


def explain(forms: GraphVariants, method: str, graph: onnx.ModelProto, data: Encoded) -> list[dict[str, Any]]:
    """Return one entry a product, in the graph's order.

    `error` is `|form - float| / |float|` of its output over the tokens of some examples, with all that went wrong before it;
    `range`, `seen` and `saturated` (the share of the values beyond the range) are of what it reads; null where that has no
    fixed range: outside static int8, and where the product is in float.
    """
    made = find_matmuls(forms.model)
    # By name or by weight: smoothing renames weights.
    floats = {name for product in find_matmuls(graph) for name in (product.node, product.weight)}
    errors = output_errors(forms.model, graph, [product.output for product in made], data)
    inputs = {product.node: product.rows for product in find_matmuls(forms.calibrated(method)[0])} if method in CALIBRATED else {}
    entries: list[dict[str, Any]] = []
    for product in made:
        ranges: dict[str, Any] = {"range": None, "seen": None, "saturated": None}
        is_float = product.node in floats or product.weight in floats
        if inputs and not is_float:
            found, seen = forms.ranges(method)[inputs[product.node]], forms.calibrated(method)[1][inputs[product.node]]
            ranges = {"range": [found.low, found.high], "seen": [seen.low, seen.high], "saturated": seen.beyond(found)}
        named = {"product": product.node, "group": product.group, "float": is_float}
        entries.append({**named, "error": errors[product.output], **ranges})
    return entries


def output_errors(before: onnx.ModelProto, after: onnx.ModelProto, names: list[str], data: Encoded) -> dict[str, float]:
    """Return the relative error `|after - before| / |before|` of each value named, over the real tokens of the first examples."""
    sessions = [open_session(expose_values(model, names).SerializeToString(), None, "cpu", {}) for model in (before, after)]
    squares = np.zeros((len(names), 2))
    some = data.take(np.linspace(0, len(data) - 1, min(EXAMPLES, len(data))).astype(int))
    batches = evaluation_batches(some.lengths, max(1, BATCH_TOKENS // int(some.lengths.max())))
    with console.progress("comparing matmuls", len(batches)) as advance:
        for positions in batches:
            batch = some.batch(positions)
            found = [session.run(names, {entry.name: batch[entry.name] for entry in session.get_inputs()}) for session in sessions]
            for row, (expected, value) in enumerate(zip(*found, strict=True)):
                exact = real_rows(expected, batch["attention_mask"]).astype(np.float64)
                off = real_rows(value, batch["attention_mask"]) - exact
                squares[row] += (off**2).sum(), (exact**2).sum()
            advance()
    return {name: float(np.sqrt(off / size)) if size else float(off > 0) for name, (off, size) in zip(names, squares, strict=True)}
