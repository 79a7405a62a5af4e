"""Dynamic int8: weights per output channel, activations by each batch's own range."""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.core.machine import WIDE_DOT_PRODUCTS, cpu_flags
from compress.quantize.matmuls import check_opset, drop_unused, find_matmuls, recurrent_nodes, split_gemms, transpose_weights
from compress.quantize.static import SEVEN_BIT_LEVELS, WEIGHT_LEVELS, Codes, quantize_weight

DYNAMIC_OPSET = 11  # the first with DynamicQuantizeLinear
ACTIVATION = ("int8", "scale", "zero")  # what DynamicQuantizeLinear gives
INTEGER = {"MatMulInteger", "QLinearMatMul", "MatMulNBits", "DynamicQuantizeLSTM"}  # operators whose weights are whole numbers


def needs_seven_bits(flags: list[str] | None = None) -> bool:
    """Tell whether weights must be kept to 7 bits on a processor with these instruction sets (default: this one)."""
    return not WIDE_DOT_PRODUCTS & set(cpu_flags() if flags is None else flags)


def dynamic_graph(
    model: onnx.ModelProto, seven_bits: bool, keep_float: Collection[str] = (), cache: dict[str, Codes] | None = None
) -> onnx.ModelProto:
    """Return the graph with its constant matrix matmuls, an LSTM's among them, in int8; the rest stays float.

    `Y = (X_q W_q) s_x s_w`: what a product reads gets one scale and zero point from its own range when the graph runs
    (DynamicQuantizeLinear), weights one scale an output channel. In this form ONNX Runtime finds the operators that it runs as
    one. Products of two activations (attention scores and mixing) stay float: they have no weights to shrink.

    Args:
        model: left as it is.
        seven_bits: keep weights within 7 bits.
        keep_float: groups of `find_matmuls`, and names of LSTMs, that stay as they are.
        cache: weights that were quantized before, by name, filled on the way (one for each choice of bits).

    Raises:
        ModelError: a graph of an opset before 11.
    """
    check_opset(model, DYNAMIC_OPSET, "dynamic int8")
    graph = copy.deepcopy(model)
    transpose_weights(graph)
    chosen = {product.node: product for product in find_matmuls(graph) if product.group not in keep_float}
    recurrent = [name for name in recurrent_nodes(graph) if name not in keep_float]
    split_gemms(graph, chosen)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    cache = {} if cache is None else cache
    levels = SEVEN_BIT_LEVELS if seven_bits else WEIGHT_LEVELS
    added: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    read: set[str] = set()
    for node in graph.graph.node:
        product = chosen.get(node.name)
        if product is None:
            nodes.append(node)
            continue
        rows, weight, name = product.rows, product.weight, product.node
        if weight not in cache:
            cache[weight] = quantize_weight(numpy_helper.to_array(tensors[weight]), levels)
        if rows not in read:
            read.add(rows)
            nodes.append(helper.make_node("DynamicQuantizeLinear", [rows], [f"{rows}.{part}" for part in ACTIVATION], name=f"{rows}.int8"))
        codes, scales = cache[weight]
        arrays = {f"{weight}.codes": codes, f"{weight}.scale": scales, f"{weight}.zero": np.zeros_like(scales, dtype=np.int8)}
        added.update({key: numpy_helper.from_array(array, key) for key, array in arrays.items()})
        nodes += [
            helper.make_node("Mul", [f"{rows}.scale", f"{weight}.scale"], [f"{name}.scales"], name=f"{name}.scales"),
            helper.make_node(
                "MatMulInteger",
                [f"{rows}.int8", f"{weight}.codes", f"{rows}.zero", f"{weight}.zero"],
                [f"{name}.int32"],
                name=f"{name}.int32",
            ),
            helper.make_node("Cast", [f"{name}.int32"], [f"{name}.float"], name=f"{name}.float", to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.float", f"{name}.scales"], list(node.output), name=name),
        ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(added.values())
    drop_unused(graph)
    return _recurrent_int8(graph, recurrent, seven_bits) if recurrent else graph


def _recurrent_int8(graph: onnx.ModelProto, names: list[str], seven_bits: bool) -> onnx.ModelProto:
    """Return the graph with these LSTMs in int8, by ONNX Runtime's quantizer."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    previous = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it warns about a pre-processing step that this graph does not need
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "int8.onnx"
            quantize_dynamic(
                graph,
                str(target),
                op_types_to_quantize=["LSTM"],
                per_channel=True,
                reduce_range=seven_bits,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=names,
                extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            )
            return onnx.load(str(target))
    finally:
        logging.root.setLevel(previous)


def quantized_share(model: onnx.ModelProto) -> tuple[int, int]:
    """Count the matrix matmuls with whole numbers for weights (int8, dynamic or static, or int4), and those with floats.

    An LSTM counts as one.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants}
    quantized = left = 0
    for node in model.graph.node:
        weighted = node.op_type in {"MatMul", "Gemm"}
        quantized += node.op_type in INTEGER or (weighted and node.input[1] in rounded)
        left += (weighted or node.op_type == "LSTM") and node.input[1] in constants
    return quantized, left
