"""Static int8: weights per output channel, activations by calibrated ranges, matmuls with float outputs.

The graph has QuantizeLinear and DequantizeLinear around every matmul (QDQ), which ONNX Runtime, OpenVINO and TensorRT all read.
The outputs of matmuls stay float: requantizing them costs time and accuracy and saves nothing, because residuals and norms
are float. A Gemm with a bias stays a Gemm with an int32 bias, which ONNX Runtime runs as QGemm; it would merge a MatMul and an
Add into a float Gemm before it looks for int8 patterns. A Gemm with a residual becomes a MatMul and an Add, because a residual
is not a constant. So does every Gemm for a GPU: TensorRT does not dequantize int32.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper

from compress.export.graph_editing import GraphEditor, check_opset
from compress.models.int8_ranges import Range, affine
from compress.quantize.int8_weights import Codes, WeightQuantizer
from compress.quantize.matmuls import MatMul, find_matmuls, split_gemms, transpose_weights

LARGEST_BIAS = 2**30
AXIS_OPSET = 13  # the first whose DequantizeLinear has a scale per channel


def quantizable_matmuls(editor: GraphEditor, keep_float: Collection[str] = ()) -> list[MatMul]:
    """Return the matmuls that static int8 quantizes.

    A matmul whose output another matmul reads directly is left out, unless nothing else reads it (the two factors of a
    factorized linear layer qualify, ELECTRA's projection of the embeddings does not): ONNX Runtime runs a matmul in int8 only if
    none or all of its consumers quantize its output.
    """
    matmuls = find_matmuls(editor)
    rows = {matmul.rows for matmul in matmuls}
    chosen: dict[str, MatMul] = {}
    for matmul in reversed(matmuls):
        consumers = editor.consumers(matmul.output)
        only_as_rows = all(
            node.name in chosen and [name == matmul.output for name in node.input] == [True, *[False] * (len(node.input) - 1)]
            for node in consumers
        )
        if matmul.group not in keep_float and (only_as_rows or matmul.output not in rows):
            chosen[matmul.node] = matmul
    return list(reversed(chosen.values()))


def static_graph(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    weights: WeightQuantizer | None = None,
    symmetric: bool = False,
    keep_float: Collection[str] = (),
    float_biases: bool = False,
) -> onnx.ModelProto:
    """Return a copy of a float graph whose matmuls by constant weights are int8.

    Args:
        model: the float graph.
        ranges: of every value that a matmul reads, by its name.
        weights: quantizes the weights, and keeps them for further graphs of the same model.
        symmetric: signed activations around 0 (ARM, TensorRT).
        keep_float: groups of matmuls that stay float.
        float_biases: biases stay float and are added after the matmul.

    Raises:
        ModelError: the graph has an opset before 13.
    """
    check_opset(model, AXIS_OPSET, "static int8")
    weights = weights or WeightQuantizer()
    editor = GraphEditor(model)
    transpose_weights(editor)
    chosen = {matmul.node: matmul for matmul in quantizable_matmuls(editor, keep_float)}
    codes = {matmul.node: weights.codes(editor, matmul.weight) for matmul in chosen.values()}
    scales = {name: affine(ranges[matmul.rows], symmetric)[0] * codes[name][1] for name, matmul in chosen.items()}
    biases = {} if float_biases else _int32_biases(editor, scales)
    split_gemms(editor, chosen.keys() - biases.keys())
    done: set[str] = set()  # values and weights that have their quantized form already
    for node in list(editor.nodes):
        matmul = chosen.get(node.name)
        if matmul is None:
            continue
        if matmul.rows not in done:
            editor.insert_before(node, *_quantized_activation(editor, matmul.rows, ranges[matmul.rows], symmetric))
        if matmul.weight not in done:
            editor.insert_before(node, _dequantized_constant(editor, matmul.weight, codes[node.name], axis=1))
        done |= {matmul.rows, matmul.weight}
        node.input[0], node.input[1] = f"{matmul.rows}.rounded", f"{matmul.weight}.rounded"
        if node.name in biases:
            editor.insert_before(node, _dequantized_constant(editor, f"{node.name}.bias", biases[node.name], axis=0))
            node.input[2] = f"{node.name}.bias.rounded"
    return editor.finish()


def _quantized_activation(editor: GraphEditor, value: str, value_range: Range, symmetric: bool) -> list[onnx.NodeProto]:
    """Return the nodes that quantize an activation and dequantize it again; its scale and zero point become constants."""
    scale, zero = affine(value_range, symmetric)
    parameters = [editor.add_constant(np.asarray(scale), f"{value}.scale"), editor.add_constant(np.asarray(zero), f"{value}.zero")]
    return [
        helper.make_node("QuantizeLinear", [value, *parameters], [f"{value}.int8"], name=f"{value}.int8"),
        helper.make_node("DequantizeLinear", [f"{value}.int8", *parameters], [f"{value}.rounded"], name=f"{value}.rounded"),
    ]


def _dequantized_constant(editor: GraphEditor, name: str, quantized: Codes, axis: int) -> onnx.NodeProto:
    """Add codes and scales as constants, and return the node that multiplies them along an axis."""
    codes, scales = quantized
    arrays = {f"{name}.codes": codes, f"{name}.scale": scales, f"{name}.zero": np.zeros(len(scales), dtype=codes.dtype)}
    inputs = [editor.add_constant(array, key) for key, array in arrays.items()]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}.rounded"], name=f"{name}.rounded", axis=axis)


def _int32_biases(editor: GraphEditor, scales: Mapping[str, np.ndarray]) -> dict[str, Codes]:
    """Return the constant biases of Gemms as int32 codes and scales, by node name, where they fit.

    A bias is stored in units of the products that it is added to: `S_b = S_x S_w`, `Z_b = 0` (Jacob et al. 2018, eq. 11).

    Args:
        editor: of the graph.
        scales: `S_x S_w` of each matmul by node name, (out,).
    """
    biases: dict[str, Codes] = {}
    for node in editor.nodes:
        if node.op_type != "Gemm" or node.name not in scales or len(node.input) < 3:
            continue
        bias, units = editor.constant(node.input[2]), scales[node.name]
        if bias is not None and bias.shape == units.shape:
            codes = np.rint(bias.astype(np.float64) / units)
            if np.abs(codes).max() < LARGEST_BIAS:
                biases[node.name] = codes.astype(np.int32), units.astype(np.float32)
    return biases
