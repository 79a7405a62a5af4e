"""The quantization error of each matmul: the error of its output, the range of its input, and the share of values clipped."""

from __future__ import annotations

import numpy as np
import onnx

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.export.graph_editing import expose_values
from compress.export.verify import subsample
from compress.inference.onnx_session import open_session, run_arrays
from compress.quantize.calibrate import BATCH_TOKENS, without_padding
from compress.quantize.matmuls import MatMul, find_matmuls
from compress.quantize.variants import CALIBRATED, GraphVariants
from compress.results.graphs import MatmulError

EXAMPLES = 64


def matmul_errors(variants: GraphVariants, method: str, graph: onnx.ModelProto, data: Encoded) -> list[MatmulError]:
    """Return one entry per matmul, in the graph's order.

    `error` is `|quantized - float| / |float|` of its output over the tokens of some examples, errors of earlier layers included.
    `range`, `seen` (the observed range) and `saturated` (the share of values outside `range`) describe its input; they are null
    without a fixed range: outside static int8, and for matmuls in float.

    Args:
        variants: the variants of the float graph.
        method: of the quantized graph.
        graph: the quantized graph.
        data: examples.
    """
    matmuls = find_matmuls(variants.model)
    # By node or by weight: smoothing renames weights, and a split Gemm keeps its node's name.
    floats = {name for matmul in find_matmuls(graph) for name in (matmul.node, matmul.weight)}
    errors = output_errors(variants.model, graph, [matmul.output for matmul in matmuls], data)
    inputs = {matmul.node: matmul.rows for matmul in find_matmuls(variants.calibrated(method)[0])} if method in CALIBRATED else {}
    entries = []
    for matmul in matmuls:
        is_float = matmul.node in floats or matmul.weight in floats
        entry = _entry(matmul, is_float, errors[matmul.output])
        if inputs and not is_float:
            _add_range(entry, variants, method, inputs[matmul.node])
        entries.append(entry)
    return entries


def _entry(matmul: MatMul, is_float: bool, error: float) -> MatmulError:
    return {
        "matmul": matmul.node,
        "group": matmul.group,
        "float": is_float,
        "error": error,
        "range": None,
        "seen": None,
        "saturated": None,
    }


def _add_range(entry: MatmulError, variants: GraphVariants, method: str, value: str) -> None:
    """Add the calibrated range of a matmul's input to its entry."""
    chosen, histogram = variants.ranges(method)[value], variants.calibrated(method)[1][value]
    entry["range"], entry["seen"] = [chosen.low, chosen.high], [histogram.low, histogram.high]
    entry["saturated"] = histogram.share_outside(chosen)


def output_errors(before: onnx.ModelProto, after: onnx.ModelProto, names: list[str], data: Encoded) -> dict[str, float]:
    """Return the relative error `|after - before| / |before|` of each named value, over the real tokens of some examples."""
    sessions = [open_session(expose_values(model, names).SerializeToString(), None, "cpu", {}) for model in (before, after)]
    squares = np.zeros((len(names), 2))  # of the differences, and of the exact values
    sample = subsample(data, EXAMPLES)
    batches = evaluation_batches(sample.lengths, max(1, BATCH_TOKENS // int(sample.lengths.max())))
    with console.progress("comparing matmuls", len(batches)) as advance:
        for positions in batches:
            batch = sample.batch(positions)
            values = [run_arrays(session, names, batch) for session in sessions]
            for row, (expected, value) in enumerate(zip(*values, strict=True)):
                exact = without_padding(expected, batch["attention_mask"]).astype(np.float64)
                difference = without_padding(value, batch["attention_mask"]) - exact
                squares[row] += (difference**2).sum(), (exact**2).sum()
            advance()
    return {name: float(np.sqrt(off / size)) if size else float(off > 0) for name, (off, size) in zip(names, squares, strict=True)}
