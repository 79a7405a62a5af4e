"""SmoothQuant: move outliers from the channels of activations into the weights (Xiao et al. 2022, arXiv 2211.10438).

In a BERT layer the output of a norm also feeds the residual, so the norm's gain cannot absorb the division. An explicit Mul
stands before the matmuls of Q, K and V, and before the first projection of the FFN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from compress.export.graph_editing import GraphEditor, is_norm_node
from compress.quantize.matmuls import MatMul, find_matmuls, transpose_weights

CHANNEL_PRESERVING = {"Reshape", "Gather", "Identity"}  # operators allowed between a norm and a matmul
MIN_SCALE = 1e-5


def smooth_scales(activations: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """Return `s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)` (eq. 4), (channels,) float32; 1 for a channel that is always 0.

    Args:
        activations: max|X_j| of each input channel, (channels,).
        weights: max|W_j| of each input channel over all matmuls that read it, (channels,).
        alpha: how much of the quantization difficulty moves from the activations to the weights: 0 none, 1 all.
    """
    used = (activations > 0) & (weights > 0)
    x, w = np.where(used, activations, 1.0).astype(np.float64), np.where(used, weights, 1.0).astype(np.float64)
    return np.maximum(x**alpha / w ** (1 - alpha), MIN_SCALE).astype(np.float32)


def inputs_to_smooth(graph: onnx.ModelProto | GraphEditor) -> list[str]:
    """Return the values that are smoothed: outputs of norms, or tokens selected from them, that matmuls read.

    So is what is multiplied by the same weights: layers that share them share their scales.
    """
    editor = graph if isinstance(graph, GraphEditor) else GraphEditor(graph)

    def is_normed(value: str) -> bool:
        node = editor.producer(value)
        while node is not None and node.op_type in CHANNEL_PRESERVING:
            node = editor.producer(node.input[0])
        return node is not None and is_norm_node(editor, node)

    matmuls = find_matmuls(editor)
    scaled = {matmul.weight for matmul in matmuls if is_normed(matmul.rows)}
    together = {matmul.rows for matmul in matmuls if matmul.weight in scaled}
    return [value for value in dict.fromkeys(matmul.rows for matmul in matmuls) if value in together]


def smooth_graph(model: onnx.ModelProto, channels: Mapping[str, np.ndarray], alpha: float) -> onnx.ModelProto:
    """Return a copy of a graph with the same outputs but smoother activations.

    The values of `inputs_to_smooth` are divided by `s`, and the weights that multiply them are multiplied by it. Values that are multiplied
    by the same weights have one `s`, of the largest activations of all.

    Args:
        model: the float graph.
        channels: max|X_j| of the channels of each such value, by its name.
        alpha: see `smooth_scales`.
    """
    editor = GraphEditor(model)
    transpose_weights(editor)
    divide_channels(editor, scales_of(editor, {value: channels[value] for value in inputs_to_smooth(editor)}, alpha))
    return editor.finish()


def scales_of(editor: GraphEditor, channels: Mapping[str, np.ndarray], alpha: float) -> dict[str, np.ndarray]:
    """Return `smooth_scales` of each value in `channels`, for the weights (in, out) of all matmuls that read it.

    Values that one weight multiplies share their scales.
    """
    chosen = [matmul for matmul in find_matmuls(editor) if matmul.rows in channels]
    scales: dict[str, np.ndarray] = {}
    for values in _same_weights(chosen):
        largest = [np.abs(editor.array(matmul.weight)).max(axis=1) for matmul in chosen if matmul.rows in values]
        found = smooth_scales(np.max([channels[value] for value in values], axis=0), np.max(largest, axis=0), alpha)
        scales |= dict.fromkeys(values, found)
    return scales


def divide_channels(editor: GraphEditor, scales: Mapping[str, np.ndarray]) -> None:
    """Divide the channels of values before the matmuls that read them, and multiply the matmuls' weights, in place.

    Args:
        editor: of a graph whose weights are stored as (in, out).
        scales: of the channels of each value, (channels,) float32, by its name; from `scales_of`.
    """
    chosen = {matmul.node: matmul for matmul in find_matmuls(editor) if matmul.rows in scales}
    divided: set[str] = set()
    scaled: dict[str, str] = {}  # by the weight
    for node in list(editor.nodes):
        matmul = chosen.get(node.name)
        if matmul is None:
            continue
        value, scale, output = matmul.rows, scales[matmul.rows], f"{matmul.rows}.smooth"
        if value not in divided:
            divided.add(value)
            factors = editor.add_constant(1 / scale, f"{value}.smoothing")
            editor.insert_before(node, helper.make_node("Mul", [value, factors], [output], name=output))
        if matmul.weight not in scaled:
            weight = editor.array(matmul.weight) * scale[:, None]
            scaled[matmul.weight] = editor.add_constant(weight, f"{node.name}.weight.smooth")
        node.input[0], node.input[1] = output, scaled[matmul.weight]


def _same_weights(matmuls: Sequence[MatMul]) -> list[set[str]]:
    """Return the sets of values that matmuls read, those together that some weight multiplies; a set for each value if none is shared."""
    sets: list[set[str]] = []
    for weight in dict.fromkeys(matmul.weight for matmul in matmuls):
        values = {matmul.rows for matmul in matmuls if matmul.weight == weight}
        touched = [other for other in sets if other & values]
        sets = [other for other in sets if not other & values] + [values.union(*touched)]
    return sets
