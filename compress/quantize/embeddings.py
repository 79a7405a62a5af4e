"""Embedding tables as int8 with one scale per row: a quarter of the size, with a range for each token."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from compress.export.graph_editing import FLOAT, GraphEditor
from compress.models.int8_ranges import TABLE_ROWS, WEIGHT_LEVELS


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 codes (rows, width) and float32 scales (rows, 1) with `table ~ codes * scales`, symmetric."""
    scale = np.abs(table).max(axis=1, keepdims=True) / WEIGHT_LEVELS
    scale[scale == 0] = 1.0
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def quantize_embeddings(model: onnx.ModelProto, min_rows: int = TABLE_ROWS) -> onnx.ModelProto:
    """Return a copy in which every float table of at least `min_rows` rows that a Gather reads is int8."""
    editor = GraphEditor(model)
    tables = {name for name, tensor in editor.initializers.items() if _is_table(tensor, min_rows)}
    for node in list(editor.nodes):
        if node.op_type != "Gather" or node.input[0] not in tables:
            continue
        (name, tokens), output = node.input, node.output[0]
        if f"{name}.int8" not in editor.initializers:  # two Gathers may read the same table
            codes, scales = quantize_rows(editor.array(name))
            editor.add_constant(codes, f"{name}.int8")
            editor.add_constant(scales, f"{name}.scale")
        editor.replace(
            node,
            helper.make_node("Gather", [f"{name}.int8", tokens], [f"{output}.row"], name=f"{output}.row"),
            helper.make_node("Cast", [f"{output}.row"], [f"{output}.row.float"], name=f"{output}.row.float", to=FLOAT),
            helper.make_node("Gather", [f"{name}.scale", tokens], [f"{output}.row.scale"], name=f"{output}.row.scale"),
            helper.make_node("Mul", [f"{output}.row.float", f"{output}.row.scale"], [output], name=output),
        )
    return editor.finish()


def _is_table(tensor: onnx.TensorProto, min_rows: int) -> bool:
    return tensor.data_type == FLOAT and len(tensor.dims) == 2 and tensor.dims[0] >= min_rows
