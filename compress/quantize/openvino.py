"""Static int8 as OpenVINO runs it fastest: the same numbers, quantized where its own kernels take it along.

OpenVINO rounds to int8 at the end of an element-wise kernel where it can, and in a slow kernel of its own where it cannot. It can
not behind a LayerNormalization of rows (two axes), nor behind the transposition that merges heads. So a norm's gain and bias are
applied twice, once for the residual and once, on three axes and in units of the scale, for the product; and attention is quantized
before heads are merged: see docs/decisions/0018-a-form-for-openvino.md.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.models.layout import GRAPH
from compress.quantize.matmuls import drop_unused

SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
SHARED_BYTES = 1024  # smaller tensors are not worth a reference


def openvino_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph that computes what a static int8 graph computes, but for the order of float roundings.

    Args:
        graph: of `static_graph`, smoothed or not; left as it is. One with nodes that hold graphs is returned as it is.
    """
    form = copy.deepcopy(graph)
    if any(attribute.type in SUBGRAPHS for node in form.graph.node for attribute in node.attribute):
        return form
    edit = _Edit(form)
    for node in [node for node in form.graph.node if node.op_type == "QuantizeLinear"]:
        _round_with_the_norm(edit, node)
        _round_before_merging(edit, node)
    edit.sort()
    drop_unused(form)
    return form


class _Edit:
    """Finds what makes and what reads a value of a graph, and adds to the graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def maker(self, name: str, kind: str) -> onnx.NodeProto | None:
        """Return the node of this kind that makes a value."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Return what reads a value, where it is one node alone."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 else None

    def array(self, name: str) -> np.ndarray | None:
        """Return a constant's values."""
        return numpy_helper.to_array(self.tensors[name]) if name in self.tensors else None

    def constant(self, array: np.ndarray, name: str) -> str:
        """Add a constant; one of that name is taken for the same."""
        if name not in self.tensors:
            self.tensors[name] = numpy_helper.from_array(array, name)
            self.graph.initializer.append(self.tensors[name])
        return name

    def node(self, kind: str, read: list[str], name: str) -> str:
        """Add a node that makes the value of this name."""
        self.graph.node.append(helper.make_node(kind, read, [name], name=f"{name}.made"))
        return name

    def sort(self) -> None:
        """Keep the nodes that the outputs need, each behind all that it reads."""
        made = {entry.name for entry in [*self.graph.input, *self.graph.initializer]} | {""}
        makers = {name: node for node in self.graph.node for name in node.output}
        ordered: list[onnx.NodeProto] = []
        waiting = [makers[entry.name] for entry in reversed(self.graph.output)]
        while waiting:
            missing = [name for name in waiting[-1].input if name not in made]
            if missing:
                waiting += [makers[name] for name in missing]
                continue
            node = waiting.pop()
            if not made.issuperset(node.output):
                made.update(node.output)
                ordered.append(node)
        del self.graph.node[:]
        self.graph.node.extend(ordered)


def _round_with_the_norm(edit: _Edit, node: onnx.NodeProto) -> None:
    """Give the product behind a norm a gain and bias of its own, in units of the scale, on three axes.

    A smoothing between them (see `smooth_graph`) is taken into these, too.
    """
    smoothing = edit.maker(node.input[0], "Mul")
    factors = None if smoothing is None else edit.array(smoothing.input[1])
    if factors is not None and factors.ndim > 1:
        return
    norm = edit.maker(node.input[0] if smoothing is None or factors is None else smoothing.input[0], "LayerNormalization")
    scale, back = edit.array(node.input[1]), edit.only_reader(node.output[0])
    if norm is None or scale is None or scale.size != 1 or back is None or back.op_type != "DequantizeLinear":
        return
    gain = edit.array(norm.input[1])
    bias = edit.array(norm.input[2]) if len(norm.input) > 2 else np.zeros(1, dtype=np.float32)
    if gain is None or bias is None:
        return
    name, output, rounded = node.name, norm.output[0], back.output[0]
    plain, width = f"{norm.name}.normal", len(gain)
    norm.input[1] = edit.constant(np.ones(width, dtype=np.float32), f"norm.ones.{width}")
    del norm.input[2:]
    norm.output[0] = plain
    bias = np.broadcast_to(bias, gain.shape)
    _scaled(edit, plain, edit.constant(gain, f"{norm.name}.gain"), edit.constant(bias.copy(), f"{norm.name}.bias"), output)
    units = (1.0 if factors is None else factors.astype(np.float64)) / float(scale)
    lifted = edit.node("Unsqueeze", [plain, edit.constant(np.array([0]), "axis.first")], f"{name}.lifted")
    own_gain = edit.constant((gain * units).astype(np.float32)[None, None], f"{name}.gain")
    own_bias = edit.constant((bias * units).astype(np.float32)[None, None], f"{name}.bias")
    _scaled(edit, lifted, own_gain, own_bias, f"{name}.units")
    node.input[0] = f"{name}.units"
    node.input[1] = edit.constant(np.array(1.0, dtype=np.float32), "one.scale")
    back.output[0] = f"{rounded}.lifted"
    edit.node("Squeeze", [back.output[0], "axis.first"], rounded)


def _scaled(edit: _Edit, value: str, gain: str, bias: str, name: str) -> None:
    edit.node("Add", [edit.node("Mul", [value, gain], f"{name}.scaled"), bias], name)


def _round_before_merging(edit: _Edit, node: onnx.NodeProto) -> None:
    """Quantize what attention gives before its heads are merged: transposing integers is cheaper, and the product makes them itself."""
    merged, back = edit.maker(node.input[0], "Reshape"), edit.only_reader(node.output[0])
    turned = None if merged is None else edit.maker(merged.input[0], "Transpose")
    if merged is None or turned is None or back is None or back.op_type != "DequantizeLinear" or len(back.input) < 3:
        return
    if edit.only_reader(merged.output[0]) is None or edit.only_reader(turned.output[0]) is None:
        return
    rounded = back.output[0]
    node.input[0] = turned.input[0]
    turned.input[0] = back.output[0] = f"{rounded}.heads"
    merged.output[0] = rounded


def save_sharing_weights(form: onnx.ModelProto, path: Path) -> None:
    """Write a graph; tensors whose bytes are in `model.onnx` beside it are read from there.

    Both forms have the same words and, of one method, the same integers: together they are hardly larger than one.
    """
    form, whole = copy.deepcopy(form), (path.parent / GRAPH).read_bytes()
    for tensor in form.graph.initializer:
        offset = whole.find(tensor.raw_data) if len(tensor.raw_data) >= SHARED_BYTES else -1
        if offset >= 0:
            place = {"location": GRAPH, "offset": str(offset), "length": str(len(tensor.raw_data))}
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in place.items())
    path.write_bytes(form.SerializeToString())
