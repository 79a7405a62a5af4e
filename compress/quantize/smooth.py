"""SmoothQuant: outliers of the activations' channels are moved into the weights, where a channel of its own scale holds them.

Xiao et al. 2022, arXiv 2211.10438. In a BERT layer the norm's output also feeds the residual, so its gain cannot take the
division: an explicit product stands before what Q, K and V share, and before the FFN's first projection.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.quantize.matmuls import drop_unused, find_matmuls, transpose_weights

MOVES = {"Reshape", "Gather", "Identity"}  # what may stand between a norm and a product: the channels stay what they are
SMALLEST = 1e-5


def smooth_scales(activations: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """Return `s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)` (eq. 4), (channels,) float32; 1 for a channel that is not used.

    Args:
        activations: max|X_j| of each input channel, (channels,).
        weights: max|W_j| of each input channel over all matmuls that read it, (channels,).
        alpha: how much of the difficulty moves from the activations into the weights: 0 none, 1 all.
    """
    used = (activations > 0) & (weights > 0)
    x, w = np.where(used, activations, 1.0).astype(np.float64), np.where(used, weights, 1.0).astype(np.float64)
    return np.maximum(x**alpha / w ** (1 - alpha), SMALLEST).astype(np.float32)


def inputs_to_smooth(model: onnx.ModelProto) -> list[str]:
    """Return the values to smooth: norms' outputs, or tokens of them, that matmuls read."""
    makers = {name: node for node in model.graph.node for name in node.output}

    def is_norm(name: str) -> bool:
        node = makers.get(name)
        while node is not None and node.op_type in MOVES:
            node = makers.get(node.input[0])
        return node is not None and node.op_type == "LayerNormalization"

    return [name for name in dict.fromkeys(product.rows for product in find_matmuls(model)) if is_norm(name)]


def smooth_graph(model: onnx.ModelProto, channels: Mapping[str, np.ndarray], alpha: float) -> onnx.ModelProto:
    """Return a graph that computes the same, with the values in `inputs_to_smooth` divided by `s` and their weights times `s`.

    Args:
        model: left as it is.
        channels: max|X_j| of each value's channels, by its name.
        alpha: see `smooth_scales`.
    """
    graph = copy.deepcopy(model)
    transpose_weights(graph)
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    smoothed = set(inputs_to_smooth(graph))
    chosen = {product.node: product for product in find_matmuls(graph) if product.rows in smoothed}
    scales = {}
    for rows in smoothed:
        weights = [np.abs(numpy_helper.to_array(tensors[p.weight])).max(axis=1) for p in chosen.values() if p.rows == rows]
        scales[rows] = smooth_scales(channels[rows], np.max(weights, axis=0), alpha)
    added: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    divided: set[str] = set()
    for node in graph.graph.node:
        product = chosen.get(node.name)
        if product is not None:
            rows, s = product.rows, scales[product.rows]
            if rows not in divided:
                divided.add(rows)
                added.append(numpy_helper.from_array(1 / s, f"{rows}.smoothing"))
                nodes.append(helper.make_node("Mul", [rows, f"{rows}.smoothing"], [f"{rows}.smooth"], name=f"{rows}.smooth"))
            weight = f"{node.name}.weight.smooth"
            added.append(numpy_helper.from_array(numpy_helper.to_array(tensors[product.weight]) * s[:, None], weight))
            node.input[0], node.input[1] = f"{rows}.smooth", weight
        nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(added)
    drop_unused(graph)
    return graph
