"""int4: weights as 4-bit integers with one scale per block of 32; activations and sums stay float.

ONNX Runtime's `com.microsoft::MatMulNBits` unpacks the weights as it multiplies. So an int4 graph is small rather than fast:
unlike int8 it does not multiply in integers.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper

from compress.export.builder import MICROSOFT
from compress.export.graph_editing import GraphEditor
from compress.quantize.matmuls import MatMul, find_matmuls, split_gemms, transpose_weights

BLOCK = 32  # weights per scale: 4 bits each and 32 bits for the scale, so 5 bits per weight
LOWEST, HIGHEST = -8, 7
CLIPPING = np.linspace(1.0, 0.7, 7)  # shares of the largest weight that are tried: clipping it rounds the others more finely


def quantize_blocks(weight: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Return codes in [-8, 7], (out, blocks, block) int8, and float32 scales (out, blocks), with `weight ~ codes * scales`.

    The sign of a scale makes the largest weight of its block -8, the code without an opposite. Of several clipping shares the
    one with the least squared error is kept, its scale refitted to the codes: `s = <w, q> / <q, q>`.

    Args:
        weight: (in, out); `in` is padded with zeros to whole blocks.
        block: weights per scale, consecutive inputs of one output.
    """
    rows = np.pad(weight.T.astype(np.float32), ((0, 0), (0, -len(weight) % block))).reshape(weight.shape[1], -1, block)
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=2)[..., None], axis=2)[..., 0]  # (out, blocks), signed
    codes = np.zeros(rows.shape, dtype=np.int8)
    scales = np.ones(rows.shape[:2], dtype=np.float32)
    smallest_error = (rows**2).sum(axis=2)
    for share in CLIPPING:
        scale = np.where(largest == 0, 1.0, largest * np.float32(share) / LOWEST)
        candidate = np.clip(np.rint(rows / scale[..., None]), LOWEST, HIGHEST)
        squares = (candidate**2).sum(axis=2)
        scale = np.where(squares > 0, (rows * candidate).sum(axis=2) / np.maximum(squares, 1), scale)
        error = ((rows - candidate * scale[..., None]) ** 2).sum(axis=2)
        better = error < smallest_error
        codes[better], scales[better], smallest_error[better] = candidate[better], scale[better], error[better]
    return codes, scales


def pack(codes: np.ndarray) -> np.ndarray:
    """Return codes in [-8, 7], (out, blocks, block), as MatMulNBits reads them: plus 8, two per byte, the first in the low bits."""
    shifted = (codes.astype(np.int16) - LOWEST).astype(np.uint8)
    return shifted[..., ::2] | (shifted[..., 1::2] << 4)


def int4_graph(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """Return a copy of a float graph whose matmuls have int4 weights.

    Args:
        model: the float graph.
        keep_float: groups of matmuls that stay float.
    """
    editor = GraphEditor(model)
    transpose_weights(editor)
    chosen = {matmul.node: matmul for matmul in find_matmuls(editor) if matmul.group not in keep_float}
    split_gemms(editor, chosen)
    for node in list(editor.nodes):
        if node.name in chosen:
            editor.replace(node, _int4_matmul(editor, chosen[node.name], node.output[0]))
    if chosen:
        editor.require_domain(MICROSOFT, 1)
    return editor.finish()


def _int4_matmul(editor: GraphEditor, matmul: MatMul, output: str) -> onnx.NodeProto:
    """Return the node of a matmul by int4 weights, and add its constants."""
    name, weight = matmul.weight, editor.array(matmul.weight)
    if f"{name}.int4" not in editor.initializers:  # layers may share a weight
        codes, scales = quantize_blocks(weight)
        editor.add_constant(pack(codes), f"{name}.int4")
        editor.add_constant(scales, f"{name}.scale")
    inputs, (size_in, size_out) = [matmul.rows, f"{name}.int4", f"{name}.scale"], weight.shape
    return helper.make_node(
        "MatMulNBits", inputs, [output], name=matmul.node, domain=MICROSOFT, K=size_in, N=size_out, bits=4, block_size=BLOCK
    )
