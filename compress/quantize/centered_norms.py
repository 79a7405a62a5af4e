"""LayerNorms that need neither a mean nor a bias: what they would subtract and add is folded into the matmuls around them.

A LayerNorm `g (s - mean(s)) / std(s) + c` of a sum `s = r + x W` of residual and projection does not change when a constant is added to
all channels of s. So the mean of each row of W can be taken out of it. The bias c can be added by what reads the norm: by the biases of
matmuls, and by that of the projection to which it is added as a residual. Then s has no mean but that of `g n`, for a normalised
residual n, and the norm may divide by the root mean square (Zhang and Sennrich 2019, arXiv 1910.07467), which takes ONNX Runtime half
the time. The mean of `g n` over the channels is small where gains are alike: in MiniLM a hundredth of the standard deviation. Weights
`W - mean_i(g_i W_i) / g` make matmuls blind to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from compress.export.graph_editing import GraphEditor, has_subgraphs
from compress.quantize.matmuls import is_transposed

NORM, RMS_NORM = "LayerNormalization", "SimplifiedLayerNormalization"  # the second is ONNX Runtime's own
SMALLEST_GAIN = 0.05  # of the mean gain: smaller ones would make weights large
VIEWS = ("Reshape", "Gather")  # what selects the first token of each text


@dataclass(frozen=True)
class _Norm:
    """A LayerNormalization with a constant gain and bias, (hidden,) float64 each."""

    node: onnx.NodeProto
    gain: np.ndarray
    bias: np.ndarray


def center_norms(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a copy of a float graph in which most LayerNorms have no bias and sums whose mean is nearly 0; None if none can be such.

    The graph computes the same. A norm is changed if it follows the sum of another norm's output and a projection, and if only
    matmuls and such sums read it.

    Args:
        model: a graph that [export](../export/graph.py) wrote.
    """
    if has_subgraphs(model):
        return None
    editor = GraphEditor(model)
    outputs = {entry.name for entry in model.graph.output}
    norms = {node.output[0]: norm for node in editor.nodes if node.op_type == NORM and (norm := _norm(editor, node)) is not None}
    changed = {value: norm for value, norm in norms.items() if value not in outputs and _can_change(editor, norm, norms)}
    if not changed:
        return None
    for node in list(editor.nodes):
        if node.op_type == "Gemm":
            _fold(editor, node, norms, changed)
    for norm in changed.values():
        del norm.node.input[2:]
    return editor.finish(sort=True)


def use_rms_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a graph from `center_norms`, quantized or not, whose norms without a bias divide by the root mean square."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for node in copied.graph.node:
        if node.op_type == NORM and len(node.input) == 2:
            node.op_type = RMS_NORM
    return copied


def _norm(editor: GraphEditor, node: onnx.NodeProto) -> _Norm | None:
    parts = [editor.constant(name) for name in node.input[1:]]
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    return _Norm(node, parts[0].astype(np.float64), parts[1].astype(np.float64))


def _can_change(editor: GraphEditor, norm: _Norm, norms: dict[str, _Norm]) -> bool:
    size = np.abs(norm.gain)
    if not _follows_sum(editor, norm, norms) or size.min() < SMALLEST_GAIN * size.mean():
        return False
    return all(
        _reads_as_rows(editor, node, value) or _adds(editor, node, value, norms) for node, value in _readers(editor, norm.node.output[0])
    )


def _follows_sum(editor: GraphEditor, norm: _Norm, norms: dict[str, _Norm]) -> bool:
    """Return whether a norm's input is a projection plus another norm's output."""
    node = editor.producer(norm.node.input[0], "Gemm")
    return (
        node is not None
        and _is_plain(editor, node)
        and _source(editor, node.input[2]) in norms
        and len(editor.consumers(node.output[0])) == 1
    )


def _is_plain(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Return whether a Gemm is `rows weight + addend` with a constant weight, (in, out)."""
    return len(node.input) == 3 and not is_transposed(node) and node.input[1] in editor.initializers


def _reads_as_rows(editor: GraphEditor, node: onnx.NodeProto, value: str) -> bool:
    """Return whether a node multiplies a value by constant weights and adds a constant bias."""
    if node.op_type != "Gemm" or not _is_plain(editor, node):
        return False
    return node.input[0] == value != node.input[2] and node.input[2] in editor.initializers


def _adds(editor: GraphEditor, node: onnx.NodeProto, value: str, norms: dict[str, _Norm]) -> bool:
    """Return whether a node adds a value, as a residual, to the projection before a norm."""
    if node.op_type != "Gemm" or not _is_plain(editor, node) or node.input[2] != value or node.input[0] == value:
        return False
    following = editor.only_consumer(node.output[0], NORM)
    return following is not None and following.output[0] in norms and following.input[0] == node.output[0]


def _readers(editor: GraphEditor, value: str) -> list[tuple[onnx.NodeProto, str]]:
    """Return the nodes that read a value, or rows selected from it, each with the name by which it does."""
    readers: list[tuple[onnx.NodeProto, str]] = []
    for node in editor.consumers(value):
        if node.op_type in VIEWS and node.input[0] == value:
            readers += _readers(editor, node.output[0])
        else:
            readers.append((node, value))
    return readers


def _source(editor: GraphEditor, value: str) -> str:
    """Return the value that rows were selected from."""
    node = editor.producer(value, *VIEWS)
    return value if node is None else _source(editor, node.input[0])


def _fold(editor: GraphEditor, node: onnx.NodeProto, norms: dict[str, _Norm], changed: dict[str, _Norm]) -> None:
    """Fold into a Gemm what the norms that it reads, and the norm that reads it, no longer do."""
    if not _is_plain(editor, node):
        return
    read = changed.get(_source(editor, node.input[0]))
    if read is not None:
        weight, bias = editor.array(node.input[1]).astype(np.float64), editor.array(node.input[2]).astype(np.float64)
        blind = weight - (read.gain @ weight / len(read.gain)) / read.gain[:, None]
        node.input[1] = editor.add_constant(blind.astype(np.float32), f"{node.name}.weight.centered")
        node.input[2] = editor.add_constant((bias + read.bias @ weight).astype(np.float32), f"{node.name}.bias.centered")
    residual = norms.get(_source(editor, node.input[2]))
    following = editor.only_consumer(node.output[0], NORM)
    if residual is None or following is None:
        return
    is_changed = _source(editor, node.input[2]) in changed
    centered = following.output[0] in changed
    if not is_changed and not centered:
        return
    weight = editor.array(node.input[1]).astype(np.float64)
    bias = residual.bias if is_changed else np.zeros_like(residual.bias)
    if centered:
        weight = weight - weight.mean(axis=1, keepdims=True)
        bias = bias - residual.bias.mean()
    addend, output = node.input[2], node.output[0]
    node.input[1] = editor.add_constant(weight.astype(np.float32), f"{node.name}.weight.centered")
    node.input[2] = editor.add_constant(bias.astype(np.float32), f"{node.name}.bias.centered")
    node.output[0] = f"{output}.projected"
    editor.nodes.append(helper.make_node("Add", [node.output[0], addend], [output], name=f"{node.name}.residual"))
