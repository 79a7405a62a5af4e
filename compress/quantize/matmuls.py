"""The matmuls of a float graph that have constant weights: find, group, transpose and split them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from compress.export.graph_editing import FLOAT, GraphEditor, attribute_values

SUBLAYER = re.compile(r"(layer\.\d+)\.(attention|ffn)\.(\w+)")
OUTLIERS = "outliers."  # begins the names of matmuls by the columns of outlier channels, which always stay float
INPUT_GROUPS = {"attention": "qkv", "ffn": "ffn in"}


@dataclass(frozen=True)
class MatMul:
    """A MatMul, or a Gemm with untransposed rows, by a constant weight.

    Attributes:
        node: name of its node.
        rows: the value it multiplies, (…, in).
        weight: name of its weight, (in, out) or, for a Gemm with `transB`, (out, in).
        output: the value it computes.
        group: see `group_of`.
    """

    node: str
    rows: str
    weight: str
    output: str
    group: str


def find_matmuls(graph: onnx.ModelProto | GraphEditor) -> list[MatMul]:
    """Return the matmuls by a constant float matrix, in the graph's order, without those of outlier channels."""
    if isinstance(graph, GraphEditor):
        nodes, tensors = graph.nodes, graph.initializers.values()
    else:
        nodes, tensors = graph.graph.node, graph.graph.initializer
    weights = {tensor.name for tensor in tensors if len(tensor.dims) == 2 and tensor.data_type == FLOAT}
    return [
        MatMul(node.name, node.input[0], node.input[1], node.output[0], group_of(node.name))
        for node in nodes
        if _is_matmul(node) and node.input[1] in weights and node.input[0] not in weights
    ]


def _is_matmul(node: onnx.NodeProto) -> bool:
    """Return whether a node computes `rows weight` or `rows weight + addend`."""
    if node.name.startswith(OUTLIERS):
        return False
    if node.op_type != "Gemm":
        return node.op_type == "MatMul"
    attributes = attribute_values(node)
    return not attributes.get("transA", 0) and attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0


def group_of(node: str) -> str:
    """Return the group in which a matmul is switched between int8 and float.

    Groups are `layer.0 qkv`, `layer.0 attention out`, `layer.0 ffn in`, `layer.0 ffn out`, and so on. Matmuls that read the same
    value share its quantized form, so they are one group. Outside the layers a matmul is its own group.

    Args:
        node: name of the matmul's node.
    """
    match = SUBLAYER.match(node)
    if match is None:
        return node
    layer, sublayer, part = match.groups()
    return f"{layer} {sublayer} out" if part == "out" else f"{layer} {INPUT_GROUPS[sublayer]}"


def recurrent_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the float LSTMs, in the graph's order."""
    return [node.name for node in model.graph.node if node.op_type == "LSTM"]


def is_transposed(node: onnx.NodeProto) -> bool:
    """Return whether the weight of a Gemm is stored as (out, in)."""
    return node.op_type == "Gemm" and bool(attribute_values(node).get("transB", 0))


def transpose_weights(editor: GraphEditor) -> None:
    """Store the weight of every matmul as (in, out)."""
    nodes = {node.name: node for node in editor.nodes}
    for matmul in find_matmuls(editor):
        node = nodes[matmul.node]
        if not is_transposed(node):
            continue
        transposed = f"{matmul.weight}.transposed"
        node.input[1] = editor.add_constant(np.ascontiguousarray(editor.array(matmul.weight).T), transposed)
        attributes = [attribute for attribute in node.attribute if attribute.name != "transB"]
        del node.attribute[:]
        node.attribute.extend(attributes)


def split_gemms(editor: GraphEditor, names: Collection[str]) -> None:
    """Replace each named Gemm by a MatMul of the same name and an Add; its weight must be (in, out) already."""
    for node in list(editor.nodes):
        if node.op_type != "Gemm" or node.name not in names:
            continue
        addend, output = node.input[2] if len(node.input) > 2 else "", node.output[0]
        product = f"{output}.product" if addend else output
        replacement = [helper.make_node("MatMul", list(node.input[:2]), [product], name=node.name)]
        if addend:
            replacement.append(helper.make_node("Add", [product, addend], [output], name=f"{node.name}.sum"))
        editor.replace(node, *replacement)
