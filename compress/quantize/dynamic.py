"""Dynamic int8: weights per output channel, activations by each batch's own range."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx

from compress.machine import WIDE_DOT_PRODUCTS, cpu_flags


def needs_seven_bits(flags: list[str] | None = None) -> bool:
    """Tell whether weights must be kept to 7 bits on a processor with these instruction sets (default: this one)."""
    return not WIDE_DOT_PRODUCTS & set(cpu_flags() if flags is None else flags)


def quantize_dynamic(source: Path, target: Path, seven_bits: bool) -> None:
    """Write a graph whose constant matrix products are int8, by ONNX Runtime's dynamic quantizer.

    Products of two activations (attention scores and mixing) stay float: they have no weights to shrink.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as ort_quantize

    previous = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it warns about a pre-processing step that this graph does not need
    try:
        ort_quantize(
            onnx.load(str(source)),
            str(target),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=seven_bits,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.root.setLevel(previous)


def quantized_share(model: onnx.ModelProto) -> tuple[int, int]:
    """Count the matrix products that are int8, and those with float weights left."""
    constants = {tensor.name for tensor in model.graph.initializer}
    quantized = sum(node.op_type in {"MatMulInteger", "QLinearMatMul"} for node in model.graph.node)
    left = sum(node.op_type in {"MatMul", "Gemm"} and node.input[1] in constants for node in model.graph.node)
    return quantized, left
