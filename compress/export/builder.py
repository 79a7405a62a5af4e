"""A few lines over `onnx.helper`: nodes with readable names, initializers from arrays."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.export.weights import Factors, Linear, Norm
from compress.machine import package_version

OPSET = 20  # the first with Gelu
IR_VERSION = 10
WORTH_SHARING = 1024  # bytes of a constant, below which a second copy is no loss


class GraphBuilder:
    """Collects nodes and initializers; every method returns the name of the value that it makes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

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
        """Add an initializer, or return the one that holds the same values, as the weights of layers that share theirs do."""
        array = np.array(array, order="C")
        if array.nbytes >= WORTH_SHARING:
            own = array.dtype.str, array.shape, hashlib.sha256(array.data).digest()
            if (known := self._known.setdefault(own, name)) != name:
                return known
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def integers(self, values: list[int], name: str) -> str:
        """Add an int64 initializer."""
        return self.constant(np.array(values, dtype=np.int64), name)

    def add(self, first: str, second: str, name: str) -> str:
        """Add two values."""
        return self.node("Add", [first, second], name)

    def linear(self, rows: str, linear: Linear, name: str) -> str:
        """Apply `x weight + bias` to rows."""
        return self.product(rows, linear.factors, self.constant(linear.bias.astype(np.float32), f"{name}.bias"), name)

    def product(self, rows: str, factors: Factors, addend: str, name: str) -> str:
        """Multiply rows (n, in) by a weight (in, out), or by its two factors, and add (out,) or (n, out)."""
        *first, last = factors
        for factor in first:
            rows = self.node("Gemm", [rows, self.constant(factor, f"{name}.down.weight")], f"{name}.down")
        return self.node("Gemm", [rows, self.constant(last, f"{name}.weight"), addend], name)

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
