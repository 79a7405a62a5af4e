"""Build a graph: nodes with readable names, initializers from arrays, tokens as rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.core.version import __version__
from compress.export.weights import Factors, LinearWeights, NormWeights

OPSET = 20
IR_VERSIONS = {17: 8, 20: 10, 21: 10, 23: 11}  # by opset: the file format that came with it
GELU_OPSET = 20  # the first with Gelu as one operator
AXES_AS_INPUT = 18  # the first whose ReduceMax and ReduceMean take their axes as an input
MICROSOFT = "com.microsoft"
Attribute = int | float | str | list[int]
GraphOutput = tuple[str, list[str | int]]  # a value, and its axes: names or sizes
WORTH_SHARING = 1024  # bytes; smaller constants are not shared


class GraphBuilder:
    """Collects nodes and initializers; every method returns the name of the value that it adds.

    Args:
        opset: one of `IR_VERSIONS`.
    """

    def __init__(self, opset: int = OPSET) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def node(self, op: str, inputs: list[str], name: str, domain: str | None = None, **attributes: Attribute) -> str:
        """Add a node with one output, which has the name of the node."""
        node = helper.make_node(op, inputs, [name], name=name, domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self.nodes.append(node)
        return name

    def has(self, name: str) -> bool:
        """Return whether there is a node of this name."""
        return any(node.name == name for node in self.nodes)

    def shared(self, op: str, inputs: list[str], name: str, **attributes: Attribute) -> str:
        """Add a node unless it exists already."""
        return name if self.has(name) else self.node(op, inputs, name, None, **attributes)

    def constant(self, array: np.ndarray, name: str) -> str:
        """Add an initializer, or return an equal one: layers may share their weights."""
        array = np.array(array, order="C")
        if array.nbytes >= WORTH_SHARING:
            key = array.dtype.str, array.shape, hashlib.sha256(array.data).digest()
            if (known := self._known.setdefault(key, name)) != name:
                return known
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def integers(self, values: list[int], name: str) -> str:
        """Add an int64 initializer."""
        return self.constant(np.array(values, dtype=np.int64), name)

    def split(self, value: str, sizes: str, names: list[str], name: str, axis: int = -1) -> list[str]:
        """Split an axis into parts; returns their names."""
        self.nodes.append(helper.make_node("Split", [value, sizes], names, name=name, axis=axis))
        return names

    def add(self, first: str, second: str, name: str) -> str:
        """Add the sum of two values."""
        return self.node("Add", [first, second], name)

    def number(self, value: float, name: str) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, dtype=np.float32), name)

    def gelu(self, value: str, name: str, approximate: str = "none") -> str:
        """Apply GELU (Hendrycks and Gimpel 2016): exact or with tanh; in single steps if the opset has no Gelu."""
        if self.opset >= GELU_OPSET:
            return self.node("Gelu", [value], name, approximate=approximate)
        if approximate == "none":
            scaled = self.node("Div", [value, self.number(2**0.5, "gelu.root_2")], f"{name}.scaled")
            curve = self.node("Erf", [scaled], f"{name}.erf")
        else:  # tanh(sqrt(2 / pi) (x + 0.044715 x^3))
            cube = self.node("Mul", [self.node("Mul", [value, value], f"{name}.square"), value], f"{name}.cube")
            small = self.node("Mul", [cube, self.number(0.044715, "gelu.cubic")], f"{name}.cubic")
            root = self.number((2 / np.pi) ** 0.5, "gelu.root")
            scaled = self.node("Mul", [self.add(value, small, f"{name}.sum"), root], f"{name}.scaled")
            curve = self.node("Tanh", [scaled], f"{name}.tanh")
        gate = self.node("Mul", [value, self.node("Add", [curve, self.number(1.0, "one")], f"{name}.gate")], f"{name}.gated")
        return self.node("Mul", [gate, self.number(0.5, "half")], name)

    def linear(self, rows: str, linear: LinearWeights, name: str) -> str:
        """Apply `x weight + bias` to rows."""
        return self.gemm(rows, linear.factors, self.constant(linear.bias.astype(np.float32), f"{name}.bias"), name)

    def gemm(self, rows: str, factors: Factors, addend: str, name: str) -> str:
        """Multiply rows (n, in) by a weight (in, out), or by its two factors, and add `addend`, (out,) or (n, out)."""
        *first, last = factors
        for factor in first:
            rows = self.node("Gemm", [rows, self.constant(factor, f"{name}.down.weight")], f"{name}.down")
        return self.node("Gemm", [rows, self.constant(last, f"{name}.weight"), addend], name)

    def layer_norm(self, value: str, norm: NormWeights, name: str) -> str:
        """Apply a LayerNorm over the last axis, or an RMSNorm in the steps that runtimes fuse."""
        gain = self.constant(norm.gain.astype(np.float32), f"{name}.weight")
        if norm.rms:
            return self.node("Mul", [self._over_root_mean_square(value, norm.epsilon, name), gain], name)
        bias = self.constant(norm.bias.astype(np.float32), f"{name}.bias")
        return self.node("LayerNormalization", [value, gain, bias], name, axis=-1, epsilon=norm.epsilon)

    def _over_root_mean_square(self, value: str, epsilon: float, name: str) -> str:
        square = self.node("Pow", [value, self.number(2.0, "rms.power")], f"{name}.square")
        if self.opset >= AXES_AS_INPUT:
            mean = self.node("ReduceMean", [square, self.integers([-1], "axis.last")], f"{name}.mean", keepdims=1)
        else:
            mean = self.node("ReduceMean", [square], f"{name}.mean", axes=[-1], keepdims=1)
        shifted = self.add(mean, self.number(epsilon, f"rms.epsilon.{epsilon:g}"), f"{name}.shifted")
        return self.node("Div", [value, self.node("Sqrt", [shifted], f"{name}.root")], f"{name}.normal")

    def model(self, inputs: list[str], outputs: Mapping[str, GraphOutput]) -> onnx.ModelProto:
        """Return the finished model.

        Args:
            inputs: names of the int64 inputs, (batch, sequence) each.
            outputs: the float outputs by name, each with the value that it exposes and its axes.
        """
        values = []
        for name, (value, axes) in outputs.items():
            self.node("Identity", [value], name)
            values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))
        graph = helper.make_graph(
            self.nodes,
            "compress",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs],
            values,
            list(self.initializers.values()),
        )
        others = sorted({node.domain for node in self.nodes} - {""})
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in others)],
            ir_version=IR_VERSIONS[self.opset],
            producer_name="compress",
            producer_version=__version__,
        )
        onnx.checker.check_model(model)
        return model


class RowGraph(GraphBuilder):
    """A graph whose hidden states are rows, one per token of each text: (batch * sequence, hidden).

    Where tokens are dropped, a new stage begins: its texts have fewer tokens. What is shared within a stage has its suffix in its name.

    Attributes:
        tokens: a value with the axes (batch, sequence) of this stage.
        mask: 1 for tokens and 0 for padding, (batch, sequence) int64.
        positions: of the tokens in their text, (batch, sequence) int64; empty: all of them in their order.
        stage: the suffix, empty before tokens are dropped.
    """

    def __init__(self, opset: int = OPSET) -> None:
        super().__init__(opset)
        self.tokens, self.mask, self.positions, self.stage = "input_ids", "attention_mask", "", ""

    def begin_stage(self, mask: str, positions: str) -> None:
        """Continue with the tokens of another mask, (batch, sequence) int64, and their positions."""
        number = int(self.stage.rpartition(".")[2] or 0) + 1
        self.tokens, self.mask, self.positions, self.stage = mask, mask, positions, f".stage.{number}"

    def length(self, name: str) -> str:
        """Return the number of tokens of the longest text, (1,) int64, under a name of this stage."""
        return self.shared("Shape", [self.tokens], f"{name}{self.stage}", start=1, end=2)

    def shaped(self, rows: str, tail: list[int], name: str) -> str:
        """Reshape rows to (batch, sequence, *tail)."""
        shape = "shape." + ".".join(map(str, tail)) + self.stage
        ends = self.shared("Shape", [self.tokens], f"batch_and_sequence{self.stage}")
        size = self.shared("Concat", [ends, self.integers(tail, f"{shape}.tail")], shape, axis=0)
        return self.node("Reshape", [rows, size], name)

    def first_token(self, rows: str, hidden: int, name: str) -> str:
        """Select the first token of every text: (batch, hidden)."""
        return self.first_of(self.shaped(rows, [hidden], f"{name}.texts"), name)

    def first_of(self, texts: str, name: str) -> str:
        """Select the first token of (batch, sequence, hidden): (batch, hidden)."""
        return self.node("Gather", [texts, self.constant(np.array(0, dtype=np.int64), "index.0")], name, axis=1)
