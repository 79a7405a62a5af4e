"""Dynamic int8: weights per output channel, activations by the range of each batch."""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper

from compress.core.scratch import folder as scratch_folder
from compress.export.graph_editing import FLOAT, GraphEditor, check_opset
from compress.quantize.int8_weights import WeightQuantizer
from compress.quantize.matmuls import MatMul, find_matmuls, recurrent_nodes, split_gemms, transpose_weights

DYNAMIC_OPSET = 11  # the first with DynamicQuantizeLinear
ACTIVATION = ("int8", "scale", "zero")  # the outputs of DynamicQuantizeLinear
# whose weights are integers, and how many matmuls each stands for
INTEGER_OPERATORS = {"MatMulInteger": 1, "QLinearMatMul": 1, "MatMulNBits": 1, "DynamicQuantizeLSTM": 1, "QAttention": 3}


def dynamic_graph(
    model: onnx.ModelProto, seven_bits: bool, keep_float: Collection[str] = (), weights: WeightQuantizer | None = None
) -> onnx.ModelProto:
    """Return a copy of a float graph whose matmuls by constant weights, and LSTMs, are int8.

    `Y = (X_q W_q) s_x s_w`: X gets one scale and zero point per batch (DynamicQuantizeLinear), W one scale per output channel.
    ONNX Runtime fuses this pattern into its own operators. Matmuls of two activations (attention scores, and their product with
    the values) stay float: they have no weights.

    Args:
        model: the float graph.
        seven_bits: keep weights within 7 bits.
        keep_float: groups of matmuls, and names of LSTMs, that stay float.
        weights: quantizes the weights, and keeps them for further graphs of the same model.

    Raises:
        ModelError: the graph has an opset before 11.
    """
    check_opset(model, DYNAMIC_OPSET, "dynamic int8")
    weights = weights or WeightQuantizer(seven_bits)
    editor = GraphEditor(model)
    transpose_weights(editor)
    chosen = {matmul.node: matmul for matmul in find_matmuls(editor) if matmul.group not in keep_float}
    split_gemms(editor, chosen)
    quantized_rows: set[str] = set()
    for node in list(editor.nodes):
        matmul = chosen.get(node.name)
        if matmul is None:
            continue
        if matmul.rows not in quantized_rows:  # matmuls that read the same value share its int8 form
            quantized_rows.add(matmul.rows)
            outputs = [f"{matmul.rows}.{part}" for part in ACTIVATION]
            editor.insert_before(node, helper.make_node("DynamicQuantizeLinear", [matmul.rows], outputs, name=f"{matmul.rows}.int8"))
        editor.replace(node, *_int8_matmul(editor, matmul, weights, node.output[0]))
    graph = editor.finish()
    recurrent = [name for name in recurrent_nodes(model) if name not in keep_float]
    return _quantize_lstms(graph, recurrent, seven_bits) if recurrent else graph


def _int8_matmul(editor: GraphEditor, matmul: MatMul, weights: WeightQuantizer, output: str) -> list[onnx.NodeProto]:
    """Return the nodes of `Y = (X_q W_q) s_x s_w`, and add their constants."""
    rows, weight, name = matmul.rows, matmul.weight, matmul.node
    codes, scales = weights.codes(editor, weight)
    for part, values in (("codes", codes), ("scale", scales), ("zero", np.zeros_like(scales, dtype=np.int8))):
        editor.add_constant(values, f"{weight}.{part}")
    operands = [f"{rows}.int8", f"{weight}.codes", f"{rows}.zero", f"{weight}.zero"]
    return [
        helper.make_node("Mul", [f"{rows}.scale", f"{weight}.scale"], [f"{name}.scales"], name=f"{name}.scales"),
        helper.make_node("MatMulInteger", operands, [f"{name}.int32"], name=f"{name}.int32"),
        helper.make_node("Cast", [f"{name}.int32"], [f"{name}.float"], name=f"{name}.float", to=FLOAT),
        helper.make_node("Mul", [f"{name}.float", f"{name}.scales"], [output], name=name),
    ]


def _quantize_lstms(graph: onnx.ModelProto, names: list[str], seven_bits: bool) -> onnx.ModelProto:
    """Return the graph with these LSTMs in int8, quantized by ONNX Runtime."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    previous = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it warns about a pre-processing step that this graph does not need
    try:
        with scratch_folder() as folder:
            path = folder / "int8.onnx"
            quantize_dynamic(
                graph,
                str(path),
                op_types_to_quantize=["LSTM"],
                per_channel=True,
                reduce_range=seven_bits,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=names,
                extra_options={"DefaultTensorType": FLOAT},
            )
            return onnx.load(str(path))
    finally:
        logging.root.setLevel(previous)


def count_quantized(model: onnx.ModelProto) -> tuple[int, int]:
    """Return how many matmuls have integer weights (int8 or int4) and how many have float weights.

    An LSTM counts as one, a QAttention as the three of query, key and value.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants}
    quantized = floats = 0
    for node in model.graph.node:
        matmul = node.op_type in {"MatMul", "Gemm"}
        quantized += INTEGER_OPERATORS.get(node.op_type, int(matmul and node.input[1] in dequantized))
        floats += (matmul or node.op_type == "LSTM") and node.input[1] in constants
    return quantized, floats
