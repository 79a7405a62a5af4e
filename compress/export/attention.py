"""Attention in a graph, and its forms: all compute the same, and which is fastest depends on the machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import onnx

from compress.core.errors import UsageError
from compress.export.block_attention import Parts, by_heads, within_window
from compress.export.builder import IR_VERSIONS, MICROSOFT, OPSET, RowGraph
from compress.export.disentangled import PositionTerms
from compress.export.rotary import MASKED, Rotation
from compress.export.weights import LinearWeights

ATTENTION_OPSET = 23  # the first with Attention as one operator
Attention = Literal["plain", "blocks", "mha", "onnx"]
Qkv = Literal["separate", "packed"]
Scale = Literal["folded", "scores"]


@dataclass(frozen=True)
class GraphForm:
    """How a graph is written.

    Args:
        attention: `plain` is matmuls and softmax; `blocks` is the same in parts, for long texts (compress.export.block_attention);
            `mha` is ONNX Runtime's com.microsoft.MultiHeadAttention; `onnx` is the standard Attention of opset 23.
        qkv: query, key and value from `separate` matmuls, or from one whose output is split (`packed`).
        scale: `1/sqrt(head size)` `folded` into the query's weights, or applied to the `scores`.
        opset: of the standard operators.
        token_embeddings: an embedder's graph computes the vectors of all tokens, whatever it pools.

    Raises:
        UsageError: the opset is not supported, or has no Attention operator.
    """

    attention: Attention = "plain"
    qkv: Qkv = "separate"
    scale: Scale = "folded"
    opset: int = OPSET
    token_embeddings: bool = False

    def __post_init__(self) -> None:
        if self.opset not in IR_VERSIONS:
            raise UsageError(f"opset {self.opset} is not supported", f"supported: {', '.join(map(str, IR_VERSIONS))}")
        if self.attention == "onnx" and self.opset < ATTENTION_OPSET:
            raise UsageError(f"opset {self.opset} has no Attention operator", f"give --opset {ATTENTION_OPSET}, or --attention plain")

    def as_json(self) -> dict[str, str | int]:
        """Return how the graph is written as a JSON document; `graph_outputs` says what it computes."""
        return {key: value for key, value in asdict(self).items() if key != "token_embeddings"}


PLAIN = GraphForm()
INT32_MASK, MASK_BIAS = "mask.int32", "mask.bias"  # names of the mask in its two forms, before the suffix of a stage


def attention_mask_bias(graph: RowGraph, form: GraphForm, relative: bool) -> str:
    """Add the mask that is added to the scores: 0 for tokens, a large negative number for padding, (batch, 1, 1, sequence).

    MultiHeadAttention reads the mask itself, (batch, sequence) int32, unless there is something `relative` to add to it: a position
    bias, or a window.
    """
    stage = graph.stage
    if form.attention == "mha" and not relative:
        return graph.shared("Cast", [graph.mask], f"{INT32_MASK}{stage}", to=onnx.TensorProto.INT32)
    if graph.has(f"{MASK_BIAS}{stage}"):
        return f"{MASK_BIAS}{stage}"
    mask = graph.shared("Cast", [graph.mask], f"mask.float{stage}", to=onnx.TensorProto.FLOAT)
    absent = graph.node("Sub", [graph.number(1.0, "one"), mask], f"mask.absent{stage}")
    bias = graph.node("Mul", [absent, graph.number(MASKED, "masked")], f"mask.scaled{stage}")
    return graph.node("Unsqueeze", [bias, graph.integers([1, 2], "axes.1.2")], f"{MASK_BIAS}{stage}")


def attention(
    graph: RowGraph,
    projections: tuple[LinearWeights, LinearWeights, LinearWeights],
    read: tuple[str, str],
    mask: str,
    heads: int,
    size: int,
    name: str,
    form: GraphForm,
    rotation: Rotation | None = None,
    terms: PositionTerms | None = None,
    parts: int = 1,
    in_parts: Parts | None = None,
) -> str:
    """Add softmax(Q K' + bias) V for every head; returns rows of (heads * size).

    Args:
        graph: that gets the nodes.
        projections: of query, key and value.
        read: the rows of the queries, and those of keys and values: the same rows, or the first tokens and all tokens.
        mask: from `attention_mask_bias`, possibly with position biases added, (batch, heads, queries, keys).
        heads: of this layer.
        size: of a head.
        name: of the sublayer.
        form: of attention.
        rotation: of queries and keys; the first token has the position 0, so its query stays as it is.
        terms: of relative positions in the scores.
        parts: of how many terms the scores are sums.
        in_parts: how the form `blocks` computes the layer; the mask is then one of blocks if it has a window.
    """
    first_only = read[0] != read[1]
    query, *shared = _projected(graph, projections, read, name, form)
    key, value = (_of_each_head(graph, part, linear, size) for part, linear in zip(shared, projections[1:], strict=True))
    rows = query, key, value
    scale = (parts * size) ** -0.5 if form.scale == "scores" else 1.0
    if terms is not None:
        mask = terms.add_to(graph, mask, rows[0], rows[1], (heads, size), first_only, name)
    if in_parts is not None and not first_only:
        return _in_parts(graph, rows, mask, (heads, size), scale, name, rotation, in_parts)
    if form.attention in ("plain", "blocks"):
        return _plain(graph, rows, mask, (heads, size), scale, first_only, name, rotation)
    return _as_operator(graph, rows, mask, (heads, size), scale, first_only, name, rotation, form)


def _as_operator(
    graph: RowGraph,
    rows: tuple[str, str, str],
    mask: str,
    shape: tuple[int, int],
    scale: float,
    first_only: bool,
    name: str,
    rotation: Rotation | None,
    form: GraphForm,
) -> str:
    """Add attention as one operator, ONNX Runtime's or that of ONNX; `shape` is (heads, size)."""
    heads, size = shape
    width = heads * size
    if first_only:
        query = graph.node("Reshape", [rows[0], graph.integers([-1, 1, width], f"single.{width}")], f"{rows[0]}.texts")
    else:
        query = graph.shaped(rows[0], [width], f"{rows[0]}.texts")
    key, value = (graph.shaped(part, [width], f"{part}.texts") for part in rows[1:])
    if rotation is not None:
        query = query if first_only else _rotated(graph, query, rotation, shape, form)
        key = _rotated(graph, key, rotation, shape, form)
    if form.attention == "mha":
        masks = ["", mask] if mask == f"{INT32_MASK}{graph.stage}" else ["", "", mask]
        mixed = graph.node(
            "MultiHeadAttention", [query, key, value, *masks], f"{name}.mixed", domain=MICROSOFT, num_heads=heads, scale=scale,
            mask_filter_value=MASKED,
        )  # fmt: skip
    else:
        if mask == f"{MASK_BIAS}{graph.stage}" and not first_only:  # ONNX Runtime does not broadcast it to the queries
            length = graph.length("mask.length")
            ones = graph.integers([1, 1], "mask.ones"), graph.integers([1], "mask.one")
            queries = graph.shared("Concat", [ones[0], length, ones[1]], f"mask.shape{graph.stage}", axis=0)
            mask = graph.shared("Expand", [mask, queries], f"mask.queries{graph.stage}")
        mixed = graph.node("Attention", [query, key, value, mask], f"{name}.mixed", q_num_heads=heads, kv_num_heads=heads, scale=scale)
    return graph.node("Reshape", [mixed, graph.integers([-1, width], f"merged.{width}")], f"{name}.context")


def _of_each_head(graph: RowGraph, rows: str, linear: LinearWeights, size: int) -> str:
    """Return rows of (heads * size) of keys or values that several heads share; others as they are."""
    if not linear.heads:
        return rows
    count = len(linear.bias) // size
    split = graph.node("Reshape", [rows, graph.integers([-1, count, size], f"groups.{count}")], f"{rows}.groups")
    index = graph.integers(list(linear.heads), f"{rows}.group_of_head")
    repeated = graph.node("Gather", [split, index], f"{rows}.repeated", axis=1)
    return graph.node(
        "Reshape", [repeated, graph.integers([-1, len(linear.heads) * size], f"heads.{len(linear.heads)}")], f"{rows}.of_heads"
    )


def _rotated(graph: RowGraph, texts: str, rotation: Rotation, shape: tuple[int, int], form: GraphForm) -> str:
    """Rotate (batch, sequence, heads * size); `shape` is (heads, size)."""
    if form.attention == "mha":
        return rotation.of_rows(graph, texts, f"{texts}.rotated")
    heads, size = shape
    split = graph.shaped(texts, [heads, size], f"{texts}.split")
    return graph.shaped(rotation.of_heads(graph, split, size, f"{texts}.turned"), [heads * size], f"{texts}.rotated")


def _projected(
    graph: RowGraph, projections: tuple[LinearWeights, LinearWeights, LinearWeights], read: tuple[str, str], name: str, form: GraphForm
) -> tuple[str, str, str]:
    """Add the projections; returns the rows of query, key and value, (rows, heads * size) each."""
    names = [f"{name}.query", f"{name}.key", f"{name}.value"]
    if form.qkv == "separate":
        query, key, value = (
            graph.linear(rows, linear, part) for rows, linear, part in zip((read[0], read[1], read[1]), projections, names, strict=True)
        )
        return query, key, value
    if read[0] == read[1]:
        query, key, value = packed(graph, projections, read[1], names, f"{name}.qkv")
        return query, key, value
    query = graph.linear(read[0], projections[0], names[0])
    key, value = packed(graph, projections[1:], read[1], names[1:], f"{name}.kv")
    return query, key, value


def packed(graph: RowGraph, linears: tuple[LinearWeights, ...], rows: str, names: list[str], name: str) -> list[str]:
    """Multiply rows by several weights at once and split the output; factorized weights stay separate."""
    if any(len(one.factors) > 1 for one in linears):
        return [graph.linear(rows, one, part) for one, part in zip(linears, names, strict=True)]
    weight = np.concatenate([one.factors[0] for one in linears], axis=1)
    together = LinearWeights((weight,), np.concatenate([one.bias for one in linears]))
    sizes = graph.integers([len(one.bias) for one in linears], f"{name}.sizes")
    return graph.split(graph.linear(rows, together, name), sizes, names, f"{name}.split")


def _in_parts(
    graph: RowGraph,
    rows: tuple[str, str, str],
    mask: str,
    shape: tuple[int, int],
    scale: float,
    name: str,
    rotation: Rotation | None,
    in_parts: Parts,
) -> str:
    """Add attention by blocks of tokens within a window, or without one by a few heads; `shape` is (heads, size)."""
    heads, size = shape
    query, key, value = (graph.shaped(part, [heads, size], f"{part}.split") for part in rows)
    if rotation is not None:
        query, key = (rotation.of_heads(graph, part, size, f"{part}.rotated") for part in (query, key))
    if in_parts.window is not None:
        mixed = within_window(graph, (query, key, value), mask, shape, in_parts.window, scale, name)
    else:
        orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        query, key, value = (
            graph.node("Transpose", [part], f"{part}.heads", perm=order) for part, order in zip((query, key, value), orders, strict=True)
        )
        mixed = by_heads(graph, (query, key, value), mask, heads, in_parts.heads, scale, name)
        mixed = graph.node("Transpose", [mixed], f"{name}.mixed.tokens", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [mixed, graph.integers([-1, heads * size], f"merge.{heads}")], f"{name}.context")


def _plain(
    graph: RowGraph,
    rows: tuple[str, str, str],
    mask: str,
    shape: tuple[int, int],
    scale: float,
    first_only: bool,
    name: str,
    rotation: Rotation | None,
) -> str:
    """Add attention as matmuls and a softmax; `shape` is (heads, size)."""
    heads, size = shape

    def per_head(part: str, order: list[int]) -> str:
        split = graph.shaped(part, [heads, size], f"{part}.split")
        if rotation is not None and part != rows[2]:
            split = rotation.of_heads(graph, split, size, f"{part}.rotated")
        return graph.node("Transpose", [split], f"{part}.heads", perm=order)

    query, key, value = rows
    if first_only:
        query = graph.node("Reshape", [query, graph.integers([-1, heads, 1, size], f"first.{heads}")], f"{query}.heads")
    else:
        query = per_head(query, [0, 2, 1, 3])
    scores = graph.node("MatMul", [query, per_head(key, [0, 2, 3, 1])], f"{name}.scores")
    if scale != 1.0:
        scores = graph.node("Mul", [scores, graph.number(scale, "scale")], f"{name}.scores.scaled")
    scores = graph.add(scores, mask, f"{name}.scores.masked")
    weights = graph.node("Softmax", [scores], f"{name}.weights", axis=-1)
    mixed = graph.node("MatMul", [weights, per_head(value, [0, 2, 1, 3])], f"{name}.mixed")
    if not first_only:
        mixed = graph.node("Transpose", [mixed], f"{name}.mixed.tokens", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [mixed, graph.integers([-1, heads * size], f"merge.{heads}")], f"{name}.context")
