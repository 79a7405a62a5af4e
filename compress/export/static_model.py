"""A static model in a graph: tables of tokens and of hashed bigrams, masked means, and the hidden layer."""

from __future__ import annotations

import numpy as np
import onnx

from compress.export.builder import GraphBuilder
from compress.export.weights import LinearWeights, array_of
from compress.models.layers import find_submodule
from compress.models.static_model import bigram_multiplier
from compress.models.types import TransformersModel

FLOAT = onnx.TensorProto.FLOAT
END = np.iinfo(np.int64).max


def static_rows(graph: GraphBuilder, model: TransformersModel) -> str:
    """Add the hidden layer; returns (batch, ffn).

    Every step is that of `compress.models.static_model`, with padded batches: a sum is a matmul by weights that are zero for padding.

    Args:
        graph: that gets the nodes.
        model: a static model.
    """
    encoder = find_submodule(model, "static")
    tables = [array_of(encoder.embeddings[f"{kind}_embeddings"].weight) for kind in ("word", "bigram")]
    weights = _token_weights(graph, model.config.sep_token_id if model.config.texts == 2 else None)
    count = graph.node("ReduceSum", [weights, graph.integers([-1], "axis.last")], "count", keepdims=1)  # (batch, texts, 1)
    second = _neighbour(graph, weights, 2, 1, "weights.second")  # (batch, texts, length - 1): of a bigram's second token
    first = graph.node("Unsqueeze", [_neighbour(graph, "mask", 1, 0, "mask.first"), graph.integers([1], "axis.texts")], "mask.bigrams")
    both = graph.node("Mul", [second, first], "weights.bigrams")
    buckets = _buckets(graph, bigram_multiplier(len(tables[0])), len(tables[1]))
    means = []
    for name, table, rows, row_weights in zip(("tokens", "bigrams"), tables, ("input_ids", buckets), (weights, both), strict=True):
        vectors = graph.node("Gather", [graph.constant(table, f"embeddings.{name}"), rows], f"{name}.vectors")
        means.append(graph.node("MatMul", [row_weights, vectors], f"{name}.sum"))  # (batch, texts, width)
    sums = graph.node("Concat", means, "sums", axis=-1)
    at_least_one = graph.node("Max", [count, graph.number(1.0, "one")], "count.at_least_one")
    mean = graph.node("Div", [sums, at_least_one], "means")
    if model.config.texts == 2:
        mean = _compare(graph, mean)
    rows = graph.node("Flatten", [mean], "means.rows")
    return graph.node("Relu", [graph.linear(rows, LinearWeights.of(encoder.dense), "dense")], "dense.relu")


def _neighbour(graph: GraphBuilder, value: str, axis: int, offset: int, name: str) -> str:
    """Drop the last token (offset 0) or the first one (offset 1) of each text."""
    start, end = graph.integers([offset], f"from.{offset}"), graph.integers([-1 if offset == 0 else END], f"to.{offset}")
    return graph.node("Slice", [value, start, end, graph.integers([axis], f"axis.{axis}")], name)


def _buckets(graph: GraphBuilder, multiplier: int, count: int) -> str:
    """Return the bucket of each bigram, (batch, length - 1) int64: `(first * multiplier + second) mod count`."""
    first, second = (_neighbour(graph, "input_ids", 1, offset, f"input_ids.{offset}") for offset in (0, 1))
    scaled = graph.node("Mul", [first, graph.constant(np.array(multiplier, dtype=np.int64), "multiplier")], "bigrams.scaled")
    total = graph.add(scaled, second, "bigrams.code")
    return graph.node("Mod", [total, graph.constant(np.array(count, dtype=np.int64), "buckets")], "bigrams.bucket")


def _token_weights(graph: GraphBuilder, separator: int | None) -> str:
    """Return the weight of each token in each text, (batch, texts, length): 1 in its own text, 0 in the other one and in padding."""
    mask = graph.node("Cast", ["attention_mask"], "mask", to=FLOAT)
    axis = graph.integers([1], "axis.texts")
    if separator is None:
        return graph.node("Unsqueeze", [mask, axis], "weights")
    equal = graph.node("Equal", ["input_ids", graph.constant(np.array(separator, dtype=np.int64), "separator")], "is_separator")
    separators = graph.node("Mul", [graph.node("Cast", [equal], "separators", to=FLOAT), mask], "separators.real")
    before = graph.node("CumSum", [separators, graph.constant(np.array(1, dtype=np.int64), "axis.sequence")], "before", exclusive=1)
    second = graph.node("Min", [before, mask], "weights.text.2")  # 1 after the first separator, and 0 in padding
    first = graph.node("Sub", [mask, second], "weights.text.1")
    parts = [graph.node("Unsqueeze", [part, axis], f"{part}.row") for part in (first, second)]
    return graph.node("Concat", parts, "weights", axis=1)


def _compare(graph: GraphBuilder, means: str) -> str:
    """Return u, v, |u - v| and u v, (batch, 4, width), for the means u and v of two texts, (batch, 2, width)."""
    sizes = graph.integers([1, 1], "texts.sizes")
    graph.nodes.append(onnx.helper.make_node("Split", [means, sizes], ["u", "v"], name="texts", axis=1))
    difference = graph.node("Abs", [graph.node("Sub", ["u", "v"], "difference")], "distance")
    return graph.node("Concat", ["u", "v", difference, graph.node("Mul", ["u", "v"], "product")], "compared", axis=1)
