"""Int4: weights as whole numbers of 4 bits, a scale for every 32 of them; activations and sums stay float.

ONNX Runtime's own operator, `com.microsoft::MatMulNBits`, unpacks the weights as it multiplies. So the form is small rather
than fast: int8 matmuls are done in integers, these are not.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.quantize.matmuls import drop_unused, find_matmuls, split_gemms, transpose_weights

BLOCK = 32  # weights of one scale: 4 bits each and 32 for the scale, 5 bits a weight
LOWEST, HIGHEST = -8, 7
SHRUNK = np.linspace(1.0, 0.7, 7)  # what is tried of the largest weight: cutting it off a little rounds the others finer
DOMAIN = "com.microsoft"


def quantize_blocks(weight: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Return whole numbers of [-8, 7], (out, blocks, block) int8, and float32 scales (out, blocks), with weight ~ number * scale.

    The scale's sign lets the largest weight of a block be -8, the number that has no opposite. Of several scales the one with
    the least squared error is kept, refit to the numbers that it gives: `s = <w, q> / <q, q>`.

    Args:
        weight: (in, out); `in` is filled up with zeros to whole blocks.
        block: weights of one scale, in a row of an output's.
    """
    rows = np.pad(weight.T.astype(np.float32), ((0, 0), (0, -len(weight) % block))).reshape(weight.shape[1], -1, block)
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=2)[..., None], axis=2)[..., 0]  # (out, blocks), signed
    codes = np.zeros(rows.shape, dtype=np.int8)
    scales = np.ones(rows.shape[:2], dtype=np.float32)
    least = (rows**2).sum(axis=2)
    for share in SHRUNK:
        scale = np.where(largest == 0, 1.0, largest * np.float32(share) / LOWEST)
        tried = np.clip(np.rint(rows / scale[..., None]), LOWEST, HIGHEST)
        squares = (tried**2).sum(axis=2)
        scale = np.where(squares > 0, (rows * tried).sum(axis=2) / np.maximum(squares, 1), scale)
        error = ((rows - tried * scale[..., None]) ** 2).sum(axis=2)
        better = error < least
        codes[better], scales[better], least[better] = tried[better], scale[better], error[better]
    return codes, scales


def pack(codes: np.ndarray) -> np.ndarray:
    """Return numbers of [-8, 7], (out, blocks, block), as MatMulNBits reads them: plus 8, two a byte, the first in the low bits."""
    raised = (codes.astype(np.int16) - LOWEST).astype(np.uint8)
    return raised[..., ::2] | (raised[..., 1::2] << 4)


def int4_graph(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """Return the int4 form of a float graph; the matmuls of the groups in `keep_float` stay as they are.

    Args:
        model: left as it is.
        keep_float: groups of `find_matmuls`.
    """
    graph = copy.deepcopy(model)
    transpose_weights(graph)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    chosen = {product.node: product for product in find_matmuls(graph) if product.group not in keep_float}
    split_gemms(graph, chosen)
    packed: dict[str, tuple[int, int]] = {}
    for node in graph.graph.node:
        product = chosen.get(node.name)
        if product is None:
            continue
        name = product.weight
        if name not in packed:
            weight = numpy_helper.to_array(tensors[name])
            codes, scales = quantize_blocks(weight)
            graph.graph.initializer.extend(
                [numpy_helper.from_array(pack(codes), f"{name}.int4"), numpy_helper.from_array(scales, f"{name}.scale")]
            )
            packed[name] = weight.shape[0], weight.shape[1]
        size_in, size_out = packed[name]
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits",
                [product.rows, f"{name}.int4", f"{name}.scale"],
                [node.output[0]],
                name=node.name,
                domain=DOMAIN,
                K=size_in,
                N=size_out,
                bits=4,
                block_size=BLOCK,
            )
        )
    if chosen and all(entry.domain != DOMAIN for entry in graph.opset_import):  # attention may be one of its operators
        graph.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    drop_unused(graph)
    return graph
