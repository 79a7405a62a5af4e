"""Edit an ONNX graph: find what produces and consumes a value, read constants, replace nodes, and drop what becomes unused.

`GraphEditor` edits a copy. Nodes are copied at once, weights only when the edited model is assembled, and only those still
used: copying weights is what takes time. Why this is our own code: docs/decisions/0022-graph-editing.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import helper, numpy_helper

from compress.core.errors import ModelError

FLOAT = onnx.TensorProto.FLOAT
SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


class GraphEditor:
    """An edited copy of a model; the model itself is not changed.

    Attributes:
        nodes: the nodes in the graph's order. Inputs, outputs and attributes of a node may be changed directly.
        initializers: the constants by name, in the graph's order. Replace an entry to change a constant, never the tensor
            itself: it belongs to the original model.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._original = model
        self.nodes: list[onnx.NodeProto] = []
        for node in model.graph.node:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            self.nodes.append(copied)
        self.initializers: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self._domains: dict[str, int] = {}

    @cached_property
    def _producers(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.nodes for name in node.output}

    @cached_property
    def _consumers(self) -> dict[str, list[onnx.NodeProto]]:
        consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                consumers.setdefault(name, []).append(node)
        return consumers

    def producer(self, value: str, *op_types: str) -> onnx.NodeProto | None:
        """Return the node that computes a value, if there is one and it is of one of the types (default: any).

        Like `consumers`, this describes the graph at the first call; later edits are not followed.
        """
        node = self._producers.get(value)
        return node if node is not None and (not op_types or node.op_type in op_types) else None

    def consumers(self, value: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a value, a node once for each of its inputs."""
        return self._consumers.get(value, [])

    def only_consumer(self, value: str, op_type: str | None = None) -> onnx.NodeProto | None:
        """Return the node that reads a value, if it is the only one and of the type (default: any)."""
        consumers = self.consumers(value)
        return consumers[0] if len(consumers) == 1 and op_type in (None, consumers[0].op_type) else None

    def constant(self, name: str) -> np.ndarray | None:
        """Return the values of an initializer; None if the name is not one."""
        return numpy_helper.to_array(self.initializers[name]) if name in self.initializers else None

    def array(self, name: str) -> np.ndarray:
        """Return the values of an initializer that must exist."""
        return numpy_helper.to_array(self.initializers[name])

    def add_constant(self, array: np.ndarray, name: str) -> str:
        """Add an initializer unless one has this name already, and return the name."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def append(self, op_type: str, inputs: Sequence[str], output: str, name: str) -> str:
        """Add a node with one output at the end, and return the output; `finish(sort=True)` moves it to its place."""
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=name))
        return output

    def insert_before(self, node: onnx.NodeProto, *added: onnx.NodeProto) -> None:
        """Insert nodes before a node."""
        position = self._position(node)
        self.nodes[position:position] = added

    def replace(self, node: onnx.NodeProto, *replacement: onnx.NodeProto) -> None:
        """Replace a node by others in its place."""
        position = self._position(node)
        self.nodes[position : position + 1] = replacement

    def _position(self, node: onnx.NodeProto) -> int:
        return next(position for position, other in enumerate(self.nodes) if other is node)

    def require_domain(self, domain: str, version: int) -> None:
        """Import a domain of operators unless the model already does."""
        self._domains.setdefault(domain, version)

    def finish(self, sort: bool = False) -> onnx.ModelProto:
        """Return the edited model, without the initializers that no node reads.

        Args:
            sort: order the nodes so that each comes after those it reads from, and drop those that no output needs.
        """
        model = onnx.ModelProto()
        _copy_fields(self._original, model, skipped="graph")
        _copy_fields(self._original.graph, model.graph, skipped="initializer")
        del model.graph.node[:]
        model.graph.node.extend(self._sorted_nodes() if sort else self.nodes)
        used = {name for node in model.graph.node for name in values_read(node)} | {value.name for value in model.graph.output}
        for name, tensor in self.initializers.items():
            if name in used:
                model.graph.initializer.add().CopyFrom(tensor)  # `extend` would serialize and parse it
        imported = {entry.domain for entry in model.opset_import}
        model.opset_import.extend(helper.make_opsetid(*entry) for entry in self._domains.items() if entry[0] not in imported)
        return model

    def _sorted_nodes(self) -> list[onnx.NodeProto]:
        """Return the nodes that the outputs need in topological order, by depth-first search from the outputs."""
        graph = self._original.graph
        available = {"", *(entry.name for entry in graph.input), *self.initializers}
        producers = {name: node for node in self.nodes for name in node.output}
        ordered: list[onnx.NodeProto] = []
        stack = [producers[entry.name] for entry in reversed(graph.output)]
        while stack:
            missing = [name for name in stack[-1].input if name not in available]
            if missing:
                stack += [producers[name] for name in missing]
                continue
            node = stack.pop()
            if not available.issuperset(node.output):
                available.update(node.output)
                ordered.append(node)
        return ordered


def _copy_fields(source: Message, target: Message, skipped: str) -> None:
    """Copy every field that is set but one."""
    for field, value in source.ListFields():
        if field.name == skipped:
            continue
        if isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        elif isinstance(value, (str, bytes, int, float)):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).extend(value)


def values_read(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of the values that a node reads, those of its subgraphs included."""
    yield from node.input
    for attribute in node.attribute:
        for subgraph in (attribute.g, *attribute.graphs) if attribute.type in SUBGRAPHS else ():
            yield from (name for inner in subgraph.node for name in values_read(inner))
            yield from (value.name for value in subgraph.output)


def has_subgraphs(model: onnx.ModelProto) -> bool:
    """Return whether a node of the graph holds a graph, as If and Loop do."""
    return any(attribute.type in SUBGRAPHS for node in model.graph.node for attribute in node.attribute)


def attribute_values(node: onnx.NodeProto) -> dict[str, object]:
    """Return the attributes of a node by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a unique name, in place: ONNX does not require names, but matmuls are identified by theirs."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}.{number}"
        seen.add(node.name)


def expose_values(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return a copy of a model with intermediate values as further outputs."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    outputs = {value.name for value in exposed.graph.output}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    return exposed


def check_opset(model: onnx.ModelProto, minimum: int, purpose: str) -> None:
    """Check that the standard operators of a graph are recent enough.

    Raises:
        ModelError: they are older than `minimum`.
    """
    version = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if version < minimum:
        raise ModelError(
            f"the graph has opset {version}, and {purpose} needs {minimum} or newer",
            "give the checkpoint it was exported from, or export it again",
        )


def is_norm_node(editor: GraphEditor, node: onnx.NodeProto) -> bool:
    """Return whether a node computes a norm: LayerNormalization, or the gain at the end of an RMSNorm."""
    if node.op_type != "Mul":
        return node.op_type == "LayerNormalization"
    divided = editor.producer(node.input[0], "Div")
    root = None if divided is None else editor.producer(divided.input[1], "Sqrt")
    return root is not None and editor.producer(root.input[0], "Add") is not None
