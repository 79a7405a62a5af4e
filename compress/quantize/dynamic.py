"""Dynamic int8: weights per output channel, activations by each batch's own range."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import onnx

from compress.machine import WIDE_DOT_PRODUCTS, cpu_flags
from compress.quantize.products import products, recurrent_nodes, split_gemms, turn_weights

INTEGER = {"MatMulInteger", "QLinearMatMul", "MatMulNBits", "DynamicQuantizeLSTM"}  # operators whose weights are whole numbers


def needs_seven_bits(flags: list[str] | None = None) -> bool:
    """Tell whether weights must be kept to 7 bits on a processor with these instruction sets (default: this one)."""
    return not WIDE_DOT_PRODUCTS & set(cpu_flags() if flags is None else flags)


def quantize_dynamic(source: Path, target: Path, seven_bits: bool, keep_float: Collection[str] = ()) -> None:
    """Write a graph whose constant matrix products, an LSTM's among them, are int8, by ONNX Runtime's dynamic quantizer.

    Products of two activations (attention scores and mixing) stay float: they have no weights to shrink. So do those of the
    groups in `keep_float`.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as ort_quantize

    graph = onnx.load(str(source))
    turn_weights(graph)
    chosen = [product.node for product in products(graph) if product.group not in keep_float]
    chosen += [name for name in recurrent_nodes(graph) if name not in keep_float]
    if not chosen:  # no names would mean all
        onnx.save(graph, str(target))
        return
    split_gemms(graph, chosen)
    previous = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it warns about a pre-processing step that this graph does not need
    try:
        ort_quantize(
            graph,
            str(target),
            op_types_to_quantize=["MatMul", "LSTM"],
            per_channel=True,
            reduce_range=seven_bits,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=chosen,
            # Shape inference stops at operators of ONNX Runtime's own (MultiHeadAttention); what comes after is float, too.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    finally:
        logging.root.setLevel(previous)


def quantized_share(model: onnx.ModelProto) -> tuple[int, int]:
    """Count the matrix products with whole numbers for weights (int8, dynamic or static, or int4), and those with floats.

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
