"""Pooling, dense layers and normalisation of an embedder in a graph; every step is that of `compress.models.embedder`."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from compress.data.input_spec import Pooling
from compress.export.builder import AXES_AS_INPUT, RowGraph
from compress.export.weights import LinearWeights, array_of
from compress.models.embedder import MIN_COUNT, MIN_NORM, Dense, head_of
from compress.models.types import TransformersModel

FLOAT = onnx.TensorProto.FLOAT
LOWEST = -6e4  # added to padding before a maximum: below any state, and a number in float16, too
OPERATORS = {"Tanh": "Tanh", "ReLU": "Relu", "Sigmoid": "Sigmoid"}


def sentence_vectors(graph: RowGraph, model: TransformersModel, states: str, every_token: bool) -> str:
    """Add the head of an embedder; returns the vectors, (batch, size).

    Args:
        graph: that gets the nodes.
        model: an embedder.
        states: of the last layer: (batch, sequence, hidden), or of the first tokens alone: (batch, hidden).
        every_token: the states are those of every token.
    """
    value = states
    if every_token:
        parts = [pooled_rows(graph, states, mode) for mode in head_of(model.config).pooling]
        value = parts[0] if len(parts) == 1 else graph.node("Concat", parts, "pooling", axis=-1)
    steps: Any = model.steps
    for number, step in enumerate(steps):
        value = (
            _dense(graph, value, step, f"dense.{number}") if isinstance(step, Dense) else _normalized(graph, value, f"normalize.{number}")
        )
    return value


def pooled_rows(graph: RowGraph, states: str, mode: Pooling) -> str:
    """Pool (batch, sequence, hidden) to (batch, hidden)."""
    if mode == "cls":
        return graph.first_of(states, "pooling.cls")
    if mode == "max":
        return _maximum(graph, states)
    mask = graph.shared("Cast", [graph.mask], "pooling.mask", to=FLOAT)
    weights = mask if mode in ("mean", "mean_sqrt_len") else _weights(graph, mask, mode)
    row = graph.shared("Unsqueeze", [weights, graph.integers([1], "axis.1")], f"{weights}.row")  # (batch, 1, sequence)
    name = f"pooling.{mode}"
    total = graph.node("Squeeze", [graph.node("MatMul", [row, states], f"{name}.product"), graph.integers([1], "axis.1")], f"{name}.sum")
    if mode == "lasttoken":
        return total
    count = graph.shared("ReduceSum", [weights, graph.integers([1], "axis.1")], f"{weights}.count", keepdims=1)  # (batch, 1)
    count = graph.shared("Max", [count, graph.number(MIN_COUNT, "pooling.min_count")], f"{count}.positive")
    if mode == "mean_sqrt_len":
        count = graph.node("Sqrt", [count], f"{name}.root")
    return graph.node("Div", [total, count], name)


def _weights(graph: RowGraph, mask: str, mode: Pooling) -> str:
    """Return the weight of each token, (batch, sequence): 1 for the last token only, or its position as a share of the tokens.

    A sum of positions from 361 tokens on would exceed float16.
    """
    axis = graph.constant(np.array(1, dtype=np.int64), "axis.sequence")
    positions = graph.shared("CumSum", [mask, axis], "pooling.positions")
    count = graph.shared("ReduceSum", [mask, graph.integers([1], "axis.1")], "pooling.tokens", keepdims=1)
    if mode == "weightedmean":
        tokens = graph.shared("Max", [count, graph.number(MIN_COUNT, "pooling.min_count")], "pooling.tokens.positive")
        return graph.node("Mul", [graph.node("Div", [positions, tokens], "pooling.shares"), mask], "pooling.weights")
    last = graph.node("Cast", [graph.node("Equal", [positions, count], "pooling.is_last")], "pooling.last.float", to=FLOAT)
    return graph.node("Mul", [last, mask], "pooling.last")


def _maximum(graph: RowGraph, states: str) -> str:
    """Return the largest value of each dimension over the tokens that are no padding."""
    mask = graph.shared("Cast", [graph.mask], "pooling.mask", to=FLOAT)
    padding = graph.node("Sub", [graph.number(1.0, "one"), mask], "pooling.padding")
    bias = graph.node("Mul", [padding, graph.number(LOWEST, "pooling.lowest")], "pooling.bias")
    column = graph.node("Unsqueeze", [bias, graph.integers([-1], "axis.last")], "pooling.bias.column")
    real = graph.add(states, column, "pooling.real")
    if graph.opset < AXES_AS_INPUT:
        return graph.node("ReduceMax", [real], "pooling.max", axes=[1], keepdims=0)
    return graph.node("ReduceMax", [real, graph.integers([1], "axis.1")], "pooling.max", keepdims=0)


def _dense(graph: RowGraph, value: str, step: Dense, name: str) -> str:
    bias = step.linear.bias
    zeros = np.zeros(step.linear.out_features, dtype=np.float32)
    weights = LinearWeights((array_of(step.linear.weight).T,), zeros if bias is None else array_of(bias))
    rows, kind = graph.linear(value, weights, name), type(step.activation).__name__
    if kind == "GELU":
        return graph.gelu(rows, f"{name}.act")
    return graph.node(OPERATORS[kind], [rows], f"{name}.act") if kind in OPERATORS else rows


def _normalized(graph: RowGraph, value: str, name: str) -> str:
    """Scale to length one; a vector of zeros stays one."""
    squares = graph.node("Mul", [value, value], f"{name}.squares")
    norm = graph.node(
        "Sqrt", [graph.node("ReduceSum", [squares, graph.integers([-1], "axis.last")], f"{name}.sum", keepdims=1)], f"{name}.length"
    )
    return graph.node("Div", [value, graph.node("Max", [norm, graph.number(MIN_NORM, "min_norm")], f"{name}.positive")], name)
