"""Outlier channels of an embedder: the few channels of a matmul's input that are far larger than the others, and so set its int8 range.

A class is decided by the sign of a margin, but a search by small differences of cosines, so that an embedder shows errors that a
classifier hides. Most of the error of its int8 graph comes from these channels: all others are rounded to their coarse step.

Outputs of norms are smoothed (see `smooth.py`). In the hidden layer of an FFN a single neuron can be four times as large as any
other. Its column leaves the int8 matmul, and a float matmul of these few columns adds it (LLM.int8(), Dettmers et al. 2022, arXiv
2208.07339, eq. 8).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from compress.export.graph_editing import GraphEditor
from compress.quantize.matmuls import OUTLIERS, MatMul, find_matmuls, transpose_weights
from compress.quantize.smooth import divide_channels, inputs_to_smooth, scales_of

ALPHA = 0.7  # of the smoothing: more of the difficulty moves into the weights than usual
USUAL = 0.995  # the share of an input's channels that are no outliers
LARGE = 2.0  # times the largest usual channel
MOST = 8  # columns of one matmul that stay float


def outlier_channels(largest: np.ndarray) -> np.ndarray:
    """Return the positions of the channels that are more than `LARGE` times as large as the usual ones, at most `MOST`, ascending.

    Args:
        largest: max|X_j| of each channel, (channels,).
    """
    order = np.argsort(-largest, kind="stable")[:MOST]
    return np.sort(order[largest[order] > LARGE * np.quantile(largest, USUAL, method="lower")])


def without_outliers(model: onnx.ModelProto, channels: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return a copy of a float graph with the same outputs, whose matmuls that become int8 read no outlier channels.

    Args:
        model: the float graph.
        channels: max|X_j| of the channels of each value that a matmul reads, by its name.
    """
    editor = GraphEditor(model)
    transpose_weights(editor)
    smoothed = set(inputs_to_smooth(editor))
    for matmul in find_matmuls(editor):
        if matmul.rows in channels and matmul.rows not in smoothed and len(columns := outlier_channels(channels[matmul.rows])):
            _split_columns(editor, matmul, columns)
    divide_channels(editor, scales_of(editor, {name: channels[name] for name in smoothed & channels.keys()}, ALPHA))
    return editor.finish()


def _split_columns(editor: GraphEditor, matmul: MatMul, columns: np.ndarray) -> None:
    """Compute `Y = X W + C` as `(X masked) W + (X_J W_J + C)` with J the outlier columns, in place.

    Values that several matmuls read are masked once: they have the same columns.
    """
    node = next(node for node in editor.nodes if node.name == matmul.node)
    rows, weight, name = matmul.rows, editor.array(matmul.weight), f"{OUTLIERS}{matmul.node}"
    mask = np.ones(len(weight), dtype=np.float32)
    mask[columns] = 0
    masked, picked, added = f"{rows}.usual", f"{rows}.outliers", f"{name}.sum"
    if not any(masked in other.output for other in editor.nodes):
        constants = [editor.add_constant(mask, f"{rows}.mask"), editor.add_constant(columns, f"{rows}.columns")]
        editor.insert_before(
            node,
            helper.make_node("Mul", [rows, constants[0]], [masked], name=masked),
            helper.make_node("Gather", [rows, constants[1]], [picked], name=picked, axis=-1),
        )
    of_columns = editor.add_constant(weight[columns], f"{name}.weight")
    if node.op_type == "Gemm" and len(node.input) > 2:
        editor.insert_before(node, helper.make_node("Gemm", [picked, of_columns, node.input[2]], [added], name=name))
        node.input[2] = added
        node.input[0] = masked
        return
    output = node.output[0]
    product = f"{output}.usual"
    editor.replace(
        node,
        helper.make_node("MatMul", [picked, of_columns], [added], name=name),
        helper.make_node(node.op_type, [masked, matmul.weight], [product], name=node.name),
        helper.make_node("Add", [product, added], [output], name=f"{name}.added"),
    )
