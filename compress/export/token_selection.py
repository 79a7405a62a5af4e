"""Token reduction in a graph: the tokens that receive most attention are gathered, the others are gone.

What is kept is that of [models/token_reduction.py](../models/token_reduction.py). The rows of a text come in the order of their attention,
its first token first; attention does not ask for the order, and positions are carried along where scores depend on them. Texts keep
different numbers of tokens, so the shorter ones end in padding. Only standard operators: TopK, Gather.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from compress.export.builder import RowGraph
from compress.models.shape import LEAST_TOKENS, per_mille

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
FIRST = 3e4  # added to the attention of the first token, more than any token receives; a number in float16, too


def token_selection(graph: RowGraph, weights: str, share: float, longest: int, positions: bool) -> str:
    """Choose the tokens that stay, and begin the stage of the graph in which texts have only these.

    Args:
        graph: that gets the nodes.
        weights: of the layer's attention, (batch, heads, sequence, sequence).
        share: of each text's tokens, in all.
        longest: tokens of the longest text.
        positions: whether attention depends on the positions of tokens.

    Returns:
        The rows that stay, (batch * kept,) int64: an index into the rows of the stage that ends.
    """
    stage, axis = graph.stage, graph.integers([1], "axis.1")
    counts = _counts(graph, share)
    most = graph.node("ReduceMax", [counts], f"{counts}.most", keepdims=0)
    size = graph.node("Unsqueeze", [most, graph.integers([0], "axis.0")], f"{counts}.size")
    chosen = f"tokens.chosen{stage}"  # (batch, kept), positions in the sequence of this stage
    graph.nodes.append(helper.make_node("TopK", [_attention_received(graph, weights, longest), size], [f"{chosen}.received", chosen],
                                        name=f"tokens.top{stage}", axis=1))  # fmt: skip
    zero, one = (graph.constant(np.array(number, dtype=np.int64), f"tokens.{number}") for number in (0, 1))
    ranks = graph.node("Range", [zero, most, one], f"tokens.ranks{stage}")
    mask = graph.node("Cast", [graph.node("Less", [ranks, counts], f"tokens.kept{stage}")], f"tokens.mask{stage}", to=INT64)
    batch = graph.node("Squeeze", [graph.node("Shape", [graph.tokens], f"tokens.texts{stage}", start=0, end=1)], f"tokens.batch{stage}")
    texts = graph.node("Range", [zero, batch, one], f"tokens.text{stage}")
    starts = graph.node("Mul", [texts, graph.length("tokens.length")], f"tokens.starts{stage}")
    rows = graph.add(chosen, graph.node("Unsqueeze", [starts, axis], f"tokens.offsets{stage}"), f"tokens.offset{stage}")
    flat = graph.node("Reshape", [rows, graph.integers([-1], "axis.last")], f"tokens.rows{stage}")
    kept_positions = chosen
    if positions and graph.positions:
        kept_positions = graph.node("GatherElements", [graph.positions, chosen], f"tokens.positions{stage}", axis=1)
    graph.begin_stage(mask, kept_positions if positions else "")
    return flat


def _counts(graph: RowGraph, share: float) -> str:
    """Return how many tokens of each text stay, (batch, 1) int64."""
    axis = graph.integers([1], "axis.1")
    lengths = graph.shared("ReduceSum", ["attention_mask", axis], "tokens.lengths", keepdims=1)
    least = graph.shared("Min", [lengths, graph.integers([LEAST_TOKENS], "tokens.least")], "tokens.at_least")
    name = f"tokens.counts{graph.stage}"
    parts = graph.node("Mul", [lengths, graph.integers([per_mille(share)], f"{name}.per_mille")], f"{name}.parts")
    rounded = graph.add(parts, graph.integers([999], "tokens.round"), f"{name}.rounded")
    shares = graph.node("Div", [rounded, graph.integers([1000], "tokens.thousand")], f"{name}.shares")
    return graph.node("Max", [shares, least], name)


def _attention_received(graph: RowGraph, weights: str, longest: int) -> str:
    """Return the attention that each token receives from those that are no padding, over all heads, (batch, sequence).

    The first token comes first, padding last.
    """
    stage = graph.stage
    mask = graph.shared("Cast", [graph.mask], f"mask.float{stage}", to=FLOAT)
    queries = graph.node("Unsqueeze", [mask, graph.integers([1, 2], "axes.1.2")], f"tokens.queries{stage}")
    by_head = graph.node("MatMul", [queries, weights], f"tokens.by_head{stage}")  # (batch, heads, 1, sequence)
    total = graph.node("ReduceSum", [by_head, graph.integers([1, 2], "axes.1.2")], f"tokens.total{stage}", keepdims=0)
    real = graph.node("Mul", [total, mask], f"tokens.real{stage}")
    last = graph.add(real, graph.node("Sub", [mask, graph.number(1.0, "one")], f"tokens.is_padding{stage}"), f"tokens.padding_last{stage}")
    first = np.zeros(longest, dtype=np.float32)
    first[0] = FIRST
    zero = graph.integers([0], "axis.0")
    row = graph.node(
        "Slice", [graph.constant(first, "tokens.first"), zero, graph.length("tokens.length"), zero], f"tokens.first{stage}.row"
    )
    return graph.add(last, row, f"tokens.received{stage}")
