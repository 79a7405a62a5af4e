"""A few lines over `onnx.helper`: nodes with readable names, initializers from arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.export.weights import Linear, Norm
from compress.machine import package_version

OPSET = 20  # the first with Gelu
IR_VERSION = 10


class GraphBuilder:
    """Collects nodes and initializers; every method returns the name of the value that it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, named as the node."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def has(self, name: str) -> bool:
        """Tell whether there is a node of this name."""
        return any(node.name == name for node in self.nodes)

    def shared(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node that several others use, once."""
        return name if self.has(name) else self.node(op, inputs, name, **attributes)

    def constant(self, array: np.ndarray, name: str) -> str:
        """Add an initializer."""
        self.initializers[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name

    def integers(self, values: list[int], name: str) -> str:
        """Add an int64 initializer."""
        return self.constant(np.array(values, dtype=np.int64), name)

    def add(self, first: str, second: str, name: str) -> str:
        """Add two values."""
        return self.node("Add", [first, second], name)

    def linear(self, rows: str, linear: Linear, name: str) -> str:
        """Apply `x weight + bias` to rows."""
        return self.product(rows, linear.weight, self.constant(linear.bias.astype(np.float32), f"{name}.bias"), name)

    def product(self, rows: str, weight: np.ndarray, addend: str, name: str) -> str:
        """Multiply rows (n, in) by a weight (in, out) and add (out,) or (n, out)."""
        return self.node("Gemm", [rows, self.constant(weight, f"{name}.weight"), addend], name)

    def layer_norm(self, value: str, norm: Norm, name: str) -> str:
        """Apply a LayerNorm over the last axis."""
        gain = self.constant(norm.gain.astype(np.float32), f"{name}.weight")
        bias = self.constant(norm.bias.astype(np.float32), f"{name}.bias")
        return self.node("LayerNormalization", [value, gain, bias], name, axis=-1, epsilon=norm.epsilon)

    def model(self, inputs: list[str], outputs: dict[str, tuple[str, list[str | int]]]) -> onnx.ModelProto:
        """Close the graph: int64 inputs (batch, sequence); float outputs, each with the value it shows and its axes."""
        shown = []
        for name, (value, axes) in outputs.items():
            self.node("Identity", [value], name)
            shown.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))
        graph = helper.make_graph(
            self.nodes,
            "compress",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs],
            shown,
            list(self.initializers.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="compress",
            producer_version=package_version(),
        )
        onnx.checker.check_model(model)
        return model
