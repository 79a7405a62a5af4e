"""The matrix matmuls of a float graph that have constant weights: finding, grouping, splitting them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from compress.core.errors import ModelError

BOUNDARY = re.compile(r"(layer\.\d+)\.(attention|ffn)\.(\w+)")
GROUPS = {"attention": "qkv", "ffn": "ffn in"}


@dataclass(frozen=True)
class MatMul:
    """A MatMul, or a Gemm of untransposed rows, by a constant weight: the names of its node and of the values it reads and makes."""

    node: str
    rows: str
    weight: str
    output: str
    group: str


def find_matmuls(model: onnx.ModelProto) -> list[MatMul]:
    """Return the matmuls with a constant float matrix of at least one row and column, in the graph's order."""
    weights = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT}
    found = []
    for node in model.graph.node:
        plain = node.op_type == "MatMul" or (node.op_type == "Gemm" and _is_plain(node))
        if plain and node.input[1] in weights and node.input[0] not in weights:
            found.append(MatMul(node.name, node.input[0], node.input[1], node.output[0], group_of(node.name)))
    return found


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own, in place: ONNX asks for none, and matmuls are told apart by theirs."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}.{number}"
        seen.add(node.name)


def check_opset(model: onnx.ModelProto, least: int, what: str) -> None:
    """Check that a graph's operators are new enough.

    Raises:
        ModelError: they are older than `least`, which `what` needs.
    """
    version = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if version < least:
        raise ModelError(
            f"the graph has opset {version}, and {what} needs {least} or newer", "give the checkpoint it was made from, or export it anew"
        )


def recurrent_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the float LSTMs, in the graph's order."""
    return [node.name for node in model.graph.node if node.op_type == "LSTM"]


def _is_plain(node: onnx.NodeProto) -> bool:
    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return not values.get("transA", 0) and values.get("alpha", 1.0) == 1.0 and values.get("beta", 1.0) == 1.0


def group_of(node: str) -> str:
    """Return what a product is switched to float with: `layer.0 qkv`, `layer.0 attention out`, `layer.0 ffn in`, …; else itself.

    `node` is the product's name. What reads one value is in one group, as it shares its quantized form.
    """
    match = BOUNDARY.match(node)
    if match is None:
        return node
    layer, sublayer, part = match.groups()
    return f"{layer} {sublayer} out" if part == "out" else f"{layer} {GROUPS[sublayer]}"


def is_transposed(node: onnx.NodeProto) -> bool:
    """Tell whether a Gemm's weight is stored (out, in)."""
    return node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def transpose_weights(model: onnx.ModelProto) -> None:
    """Store the weight of every product as (in, out), in place."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    for product in find_matmuls(model):
        node, turned = nodes[product.node], f"{product.weight}.turned"
        if is_transposed(node):
            if turned not in tensors:
                array = np.ascontiguousarray(numpy_helper.to_array(tensors[product.weight]).T)
                tensors[turned] = numpy_helper.from_array(array, turned)
                model.graph.initializer.append(tensors[turned])
            node.input[1] = turned
            kept = [attribute for attribute in node.attribute if attribute.name != "transB"]
            del node.attribute[:]
            node.attribute.extend(kept)
    drop_unused(model)


def split_gemms(model: onnx.ModelProto, only: Collection[str]) -> None:
    """Turn every Gemm named in `only` into a MatMul of its name and an Add, in place; weights are (in, out) already."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "Gemm" or node.name not in only:
            nodes.append(node)
            continue
        addend = len(node.input) > 2 and node.input[2]
        product = f"{node.output[0]}.product" if addend else node.output[0]
        nodes.append(helper.make_node("MatMul", list(node.input[:2]), [product], name=node.name))
        if addend:
            nodes.append(helper.make_node("Add", [product, addend], [node.output[0]], name=f"{node.name}.sum"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove the initializers that no node reads, in place."""
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(kept) < len(model.graph.initializer):
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
