"""Static int8: weights per output channel, activations by ranges that were calibrated; matmuls give floats.

The graph is written with QuantizeLinear and DequantizeLinear around every product (the form that ONNX Runtime, OpenVINO and
TensorRT all read). Their outputs stay float: requantizing them costs time and accuracy and saves nothing, as residuals and
norms are float. A Gemm with a bias stays one, its bias an int32 in units of both scales, which ONNX Runtime runs as QGemm; a
MatMul and an Add it would merge into a Gemm of floats before it looks for integers. A Gemm with a residual becomes a MatMul
and an Add: a residual is no constant that could become an integer. So does every Gemm for a GPU: TensorRT dequantizes no int32.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.quantize.calibrate import Range
from compress.quantize.matmuls import MatMul, check_opset, drop_unused, find_matmuls, split_gemms, transpose_weights

WEIGHT_LEVELS = 127
SEVEN_BIT_LEVELS = 64  # 2 * 255 * 64 still fits into the 16 bits in which older processors add
LARGEST_BIAS = 2**30
AXIS_OPSET = 13  # the first in which a DequantizeLinear has a scale a channel
Codes = tuple[np.ndarray, np.ndarray]  # integers and the scales of their channels


def quantize_weight(weight: np.ndarray, levels: int = WEIGHT_LEVELS) -> Codes:
    """Return int8 (in, out) and float32 scales (out,) with weight ~ int8 * scale: symmetric, one scale an output channel."""
    scale = np.abs(weight).max(axis=0) / levels
    scale[scale == 0] = 1.0
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32)


def affine(found: Range, symmetric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale S and zero point Z of `r = S (q - Z)` (Jacob et al. 2018, arXiv 1712.05877, eq. 1) for a range.

    Unsigned with a zero point that stands for 0 exactly; or signed with Z = 0 where `symmetric`.
    """
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    if symmetric:
        bound = max(-low, high)
        return np.float32(bound / 127 if bound else 1.0), np.int8(0)  # pyright: ignore[reportReturnType]
    scale = (high - low) / 255 or 1.0
    return np.float32(scale), np.uint8(np.clip(np.rint(-low / scale), 0, 255))  # pyright: ignore[reportReturnType]


def quantizable(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> list[MatMul]:
    """Return the matmuls that static int8 takes.

    Not one that another product reads directly, unless nothing else does (as of a linear's two factors, but not of ELECTRA's
    projection of the embeddings): ONNX Runtime runs a product in integers only where none of its readers, or all of them,
    quantize what it gives.
    """
    every = find_matmuls(model)
    read = {product.rows for product in every}
    readers: dict[str, list[tuple[str, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node.name, place))
    found: dict[str, MatMul] = {}
    for product in reversed(every):
        alone = all(name in found and place == 0 for name, place in readers.get(product.output, []))
        if product.group not in keep_float and (alone or product.output not in read):
            found[product.node] = product
    return list(reversed(found.values()))


def static_graph(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    seven_bits: bool = False,
    symmetric: bool = False,
    keep_float: Collection[str] = (),
    cache: dict[str, Codes] | None = None,
    float_biases: bool = False,
) -> onnx.ModelProto:
    """Return the int8 form of a float graph; the matmuls of the groups in `keep_float` stay as they are.

    Args:
        model: left as it is.
        ranges: of every value that a product reads, by its name.
        seven_bits: keep weights within 7 bits.
        symmetric: signed activations around 0 (ARM, TensorRT).
        keep_float: groups of `find_matmuls`.
        cache: weights that were quantized before, by name, filled on the way (one for each choice of bits).
        float_biases: biases stay float, added after the product.

    Raises:
        ModelError: a graph of an opset before 13.
    """
    check_opset(model, AXIS_OPSET, "static int8")
    graph = copy.deepcopy(model)
    transpose_weights(graph)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    quantized = quantizable(graph, keep_float)
    cache = {} if cache is None else cache
    levels = SEVEN_BIT_LEVELS if seven_bits else WEIGHT_LEVELS
    for product in quantized:
        if product.weight not in cache:
            cache[product.weight] = quantize_weight(numpy_helper.to_array(tensors[product.weight]), levels)
    inputs = {product.node: affine(ranges[product.rows], symmetric)[0] for product in quantized}
    biases = {} if float_biases else _biases(graph, quantized, inputs, cache)
    split_gemms(graph, {product.node for product in quantized} - set(biases))
    chosen = {product.node: product for product in quantized}
    added: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    read: set[str] = set()
    for node in graph.graph.node:
        product = chosen.get(node.name)
        if product is not None:
            if product.rows not in read:
                read.add(product.rows)
                nodes += _activation(product, ranges[product.rows], symmetric, added)
            if f"{product.weight}.codes" not in added:
                nodes.append(_constant(product.weight, *cache[product.weight], added, axis=1))
            node.input[0], node.input[1] = f"{product.rows}.rounded", f"{product.weight}.rounded"
            if node.name in biases:
                nodes.append(_constant(f"{node.name}.bias", *biases[node.name], added, axis=0))
                node.input[2] = f"{node.name}.bias.rounded"
        nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(added.values())
    drop_unused(graph)
    return graph


def _activation(product: MatMul, found: Range, symmetric: bool, added: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    rows = product.rows
    scale, zero = affine(found, symmetric)
    parameters = [f"{rows}.scale", f"{rows}.zero"]
    for name, value in zip(parameters, (scale, zero), strict=True):
        added[name] = numpy_helper.from_array(np.asarray(value), name)
    return [
        helper.make_node("QuantizeLinear", [rows, *parameters], [f"{rows}.int8"], name=f"{rows}.int8"),
        helper.make_node("DequantizeLinear", [f"{rows}.int8", *parameters], [f"{rows}.rounded"], name=f"{rows}.rounded"),
    ]


def _constant(name: str, codes: np.ndarray, scales: np.ndarray, added: dict[str, onnx.TensorProto], axis: int) -> onnx.NodeProto:
    """Add codes and scales to the initializers; returns the node that multiplies them, along `axis`."""
    arrays = {f"{name}.codes": codes, f"{name}.scale": scales, f"{name}.zero": np.zeros(len(scales), dtype=codes.dtype)}
    added.update({key: numpy_helper.from_array(array, key) for key, array in arrays.items()})
    return helper.make_node("DequantizeLinear", list(arrays), [f"{name}.rounded"], name=f"{name}.rounded", axis=axis)


def _biases(
    model: onnx.ModelProto, quantized: list[MatMul], inputs: Mapping[str, np.ndarray], weights: Mapping[str, Codes]
) -> dict[str, Codes]:
    """Return the constant biases of Gemms as int32 codes and scales by the name of the node, where they fit.

    `inputs` holds the scale of what each node reads. The product of two codes counts in units of both scales, so the bias is
    in those: `S_b = S_x S_w`, `Z_b = 0` (Jacob et al. 2018, eq. 11).
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node if node.op_type == "Gemm"}
    found = {}
    for product in quantized:
        node = nodes.get(product.node)
        if node is None or len(node.input) < 3 or node.input[2] not in tensors:
            continue
        bias, scales = numpy_helper.to_array(tensors[node.input[2]]), inputs[product.node] * weights[product.weight][1]
        if bias.shape == scales.shape:
            codes = np.rint(bias.astype(np.float64) / scales)
            if np.abs(codes).max() < LARGEST_BIAS:
                found[product.node] = codes.astype(np.int32), scales.astype(np.float32)
    return found
