"""Embedding tables as int8, one scale a row: a quarter of the size, and each word's own range."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEVELS = 127


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the int8 table (rows, width) and float32 scales (rows, 1) with table ~ int8 * scale, symmetric."""
    scale = np.abs(table).max(axis=1, keepdims=True) / LEVELS
    scale[scale == 0] = 1.0
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def quantize_embeddings(model: onnx.ModelProto, min_rows: int = 1024) -> int:
    """Replace every Gather from a float table of at least `min_rows` rows, in place; returns how many there were."""
    graph = model.graph
    tables = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2}
    gathers = [
        node for node in graph.node if node.op_type == "Gather" and node.input[0] in tables and tables[node.input[0]].dims[0] >= min_rows
    ]
    for node in gathers:
        name, output = node.input[0], node.output[0]
        codes, scales = quantize_rows(numpy_helper.to_array(tables[name]))
        if tables[name] in graph.initializer:  # a table that is looked up twice is replaced once
            graph.initializer.remove(tables[name])
            graph.initializer.extend([numpy_helper.from_array(codes, f"{name}.int8"), numpy_helper.from_array(scales, f"{name}.scale")])
        replacement = [  # named unlike what a product that reads them adds
            helper.make_node("Gather", [f"{name}.int8", node.input[1]], [f"{output}.row"], name=f"{output}.row"),
            helper.make_node("Cast", [f"{output}.row"], [f"{output}.row.float"], name=f"{output}.row.float", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", node.input[1]], [f"{output}.row.scale"], name=f"{output}.row.scale"),
            helper.make_node("Mul", [f"{output}.row.float", f"{output}.row.scale"], [output], name=output),
        ]
        position = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, new in enumerate(replacement):
            graph.node.insert(position + offset, new)
    return len(gathers)
