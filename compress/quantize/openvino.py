"""Rewrite a static int8 graph for OpenVINO: the same outputs, with quantization where its kernels can fuse it.

OpenVINO rounds to int8 at the end of an element-wise kernel if it can, and in a separate slow kernel if not. It cannot after a
LayerNormalization of rows (two axes), nor after the Transpose that merges heads. So the gain and bias of a norm are applied
twice: for the residual, and, on three axes and in units of the int8 scale, for the matmul. Attention is quantized before its
heads are merged. See docs/decisions/0018-a-form-for-openvino.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from compress.export.graph_editing import GraphEditor, has_subgraphs
from compress.models.layout import GRAPH

MIN_SHARED_BYTES = 1024  # smaller tensors are not worth a reference


def openvino_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a static int8 graph that OpenVINO runs faster; it differs in the order of float roundings only.

    Args:
        model: of `static_graph`, smoothed or not. One with subgraphs is returned as it is.
    """
    if has_subgraphs(model):
        return model
    editor = GraphEditor(model)
    for node in [node for node in editor.nodes if node.op_type == "QuantizeLinear"]:
        _quantize_with_the_norm(editor, node)
        _quantize_before_merging_heads(editor, node)
    return editor.finish(sort=True)


def _quantize_with_the_norm(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Apply a norm's gain and bias separately for the QuantizeLinear after it: in units of its scale, on three axes.

    The Mul of a smoothing between them (see `smooth_graph`) is folded in.
    """
    smoothing = editor.producer(node.input[0], "Mul")
    factors = None if smoothing is None else editor.constant(smoothing.input[1])
    if factors is not None and factors.ndim > 1:
        return
    norm = editor.producer(node.input[0] if smoothing is None or factors is None else smoothing.input[0], "LayerNormalization")
    scale, dequantize = editor.constant(node.input[1]), editor.only_consumer(node.output[0], "DequantizeLinear")
    if norm is None or scale is None or scale.size != 1 or dequantize is None:
        return
    gain = editor.constant(norm.input[1])
    bias = editor.constant(norm.input[2]) if len(norm.input) > 2 else np.zeros(1, dtype=np.float32)
    if gain is None or bias is None:
        return
    bias = np.broadcast_to(bias, gain.shape).copy()
    normalized = _without_gain_and_bias(editor, norm, gain, bias)
    _quantize_in_units(
        editor, node, dequantize, normalized, (gain, bias), (1.0 if factors is None else factors.astype(np.float64)) / float(scale)
    )


def _without_gain_and_bias(editor: GraphEditor, norm: onnx.NodeProto, gain: np.ndarray, bias: np.ndarray) -> str:
    """Let a norm compute the normalized value only, and apply gain and bias after it; returns the normalized value."""
    name, output, normalized, width = norm.name, norm.output[0], f"{norm.name}.normal", len(gain)
    norm.input[1] = editor.add_constant(np.ones(width, dtype=np.float32), f"norm.ones.{width}")
    del norm.input[2:]
    norm.output[0] = normalized
    _scale_and_shift(editor, normalized, editor.add_constant(gain, f"{name}.gain"), editor.add_constant(bias, f"{name}.bias"), output)
    return normalized


def _quantize_in_units(
    editor: GraphEditor,
    quantize: onnx.NodeProto,
    dequantize: onnx.NodeProto,
    normalized: str,
    affine: tuple[np.ndarray, np.ndarray],
    units: np.ndarray | float,
) -> None:
    """Quantize a normalized value, its gain and bias (hidden,) in units of the int8 scale, so that the scale itself is 1."""
    name, dequantized = quantize.name, dequantize.output[0]
    gain, bias = affine
    first_axis = editor.add_constant(np.array([0]), "axis.first")
    lifted = _add_node(editor, "Unsqueeze", [normalized, first_axis], f"{name}.lifted")
    gain_in_units = editor.add_constant((gain * units).astype(np.float32)[None, None], f"{name}.gain")
    bias_in_units = editor.add_constant((bias * units).astype(np.float32)[None, None], f"{name}.bias")
    quantize.input[0] = _scale_and_shift(editor, lifted, gain_in_units, bias_in_units, f"{name}.units")
    quantize.input[1] = editor.add_constant(np.array(1.0, dtype=np.float32), "one.scale")
    dequantize.output[0] = f"{dequantized}.lifted"
    _add_node(editor, "Squeeze", [dequantize.output[0], first_axis], dequantized)


def _scale_and_shift(editor: GraphEditor, value: str, gain: str, bias: str, output: str) -> str:
    return _add_node(editor, "Add", [_add_node(editor, "Mul", [value, gain], f"{output}.scaled"), bias], output)


def _add_node(editor: GraphEditor, op_type: str, inputs: list[str], output: str) -> str:
    return editor.append(op_type, inputs, output, name=f"{output}.made")


def _quantize_before_merging_heads(editor: GraphEditor, node: onnx.NodeProto) -> None:
    """Move a QuantizeLinear before the Transpose and Reshape that merge heads.

    int8 is cheaper to transpose, and the matmul before can then produce it directly.
    """
    merge, dequantize = editor.producer(node.input[0], "Reshape"), editor.only_consumer(node.output[0], "DequantizeLinear")
    transpose = None if merge is None else editor.producer(merge.input[0], "Transpose")
    if merge is None or transpose is None or dequantize is None or len(dequantize.input) < 3:
        return
    if editor.only_consumer(merge.output[0]) is None or editor.only_consumer(transpose.output[0]) is None:
        return
    dequantized = dequantize.output[0]
    node.input[0] = transpose.input[0]
    transpose.input[0] = dequantize.output[0] = f"{dequantized}.heads"
    merge.output[0] = dequantized


def save_sharing_weights(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph next to a `model.onnx`; tensors whose bytes are in that file are read from there.

    Both graphs have the same embeddings and, with one method, the same int8 weights: together they are hardly larger than one.
    """
    shared, saved = onnx.ModelProto(), (path.parent / GRAPH).read_bytes()
    shared.CopyFrom(model)
    for tensor in shared.graph.initializer:
        offset = saved.find(tensor.raw_data) if len(tensor.raw_data) >= MIN_SHARED_BYTES else -1
        if offset >= 0:
            location = {"location": GRAPH, "offset": str(offset), "length": str(len(tensor.raw_data))}
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in location.items())
    path.write_bytes(shared.SerializeToString())
