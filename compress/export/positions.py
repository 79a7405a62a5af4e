"""The relative position bias of MPNet in a graph, for any length: one row of distances becomes a matrix."""

from __future__ import annotations

import numpy as np

from compress.export.builder import RowGraph

END = 2**40  # beyond the last entry of every axis


def position_bias(graph: RowGraph, by_distance: np.ndarray, heads: tuple[int, ...], mask: str, first_only: bool) -> str:
    """Add the bias of some heads to the mask: (batch, heads, sequence, sequence). Layers with the same heads share it.

    Args:
        graph: that gets the nodes.
        by_distance: (all heads, 2 * longest), from `compress.models.relative_positions.bias_by_distance`.
        heads: that have the biases, in their order.
        mask: the mask's bias, (batch, 1, 1, sequence).
        first_only: only for the queries of the first token, (batch, heads, 1, sequence).
    """
    name = ".".join(["position_bias", "first" if first_only else "all", *map(str, heads)]) + graph.stage
    if graph.has(name):
        return name
    if graph.positions:
        table = graph.constant(by_distance[list(heads)], f"{name}.table")
        rows = graph.node("Gather", [table, token_distances(graph, first_only)], f"{name}.rows", axis=1)  # (heads, batch, queries, keys)
        return graph.add(graph.node("Transpose", [rows], f"{name}.bias", perm=[1, 0, 2, 3]), mask, name)
    length = graph.shared("Shape", ["input_ids"], "position_bias.length", start=1, end=2)
    zero, axes = graph.integers([0], "position_bias.zero"), graph.integers([1], "position_bias.heads_axis")
    if first_only:  # the distances of its keys are 0, 1, …
        table = graph.constant(by_distance[list(heads)], f"{name}.table")
        row = graph.node("Slice", [table, zero, length, axes], f"{name}.row")
        bias = graph.node("Unsqueeze", [row, graph.integers([0, 2], "position_bias.row_axes")], f"{name}.bias")
    else:
        bias = _matrix(graph, by_distance, length)
        if heads != tuple(range(len(by_distance))):
            bias = graph.node("Gather", [bias, graph.integers(list(heads), f"{name}.heads")], f"{name}.bias", axis=1)
    return graph.add(bias, mask, name)


def token_distances(graph: RowGraph, first_only: bool) -> str:
    """Return the distance from each query to each key where tokens were dropped, (batch, queries, keys) int64.

    With `first_only` the queries are the first tokens, (batch, 1, keys).
    """
    keys = graph.shared("Unsqueeze", [graph.positions, graph.integers([1], "axis.1")], f"positions.keys{graph.stage}")
    if first_only:
        return keys
    queries = graph.shared("Unsqueeze", [graph.positions, graph.integers([2], "axis.2")], f"positions.queries{graph.stage}")
    return graph.shared("Sub", [keys, queries], f"positions.distances{graph.stage}")


def _matrix(graph: RowGraph, by_distance: np.ndarray, length: str) -> str:
    """Expand distances to (1, heads, sequence, sequence); entry (i, j) is the bias of the distance j - i of key j and query i.

    The biases of the distances 0 … s - 1 and -s … -1 form a ring of 2s. Repeated s times and cut into rows of 2s - 1, each row
    starts one entry further back in the ring. This copies whole rows and takes a quarter of the time of a Gather at 128 tokens.
    """
    name = "position_bias.matrix"
    if graph.has(name):
        return name
    zero, one, two = (graph.integers([number], f"position_bias.{word}") for number, word in enumerate(("zero", "one", "two")))
    rest = graph.integers([-1], "position_bias.rest")
    table = graph.constant(by_distance, "position_bias.table")
    ahead = graph.node("Slice", [table, zero, length, one], "position_bias.ahead")
    start = graph.node("Neg", [length], "position_bias.start")
    behind = graph.node("Slice", [table, start, graph.integers([END], "position_bias.end"), one], "position_bias.behind")
    ring = graph.node("Concat", [ahead, behind], "position_bias.ring", axis=1)
    copies = graph.node("Concat", [one, length, one], "position_bias.copies", axis=0)
    rings = graph.node("Expand", [graph.node("Unsqueeze", [ring, one], "position_bias.rows"), copies], "position_bias.rings")
    flat = graph.node("Reshape", [rings, graph.integers([0, -1], "position_bias.flat_shape")], "position_bias.flat")
    shorter = graph.node("Sub", [graph.node("Mul", [length, two], "position_bias.width"), one], "position_bias.shorter")
    needed = graph.node("Slice", [flat, zero, graph.node("Mul", [length, shorter], "position_bias.count"), one], "position_bias.needed")
    shape = graph.node("Concat", [zero, length, rest], "position_bias.shape", axis=0)  # heads stay as they are
    turned = graph.node("Reshape", [needed, shape], "position_bias.turned")
    square = graph.node("Slice", [turned, zero, length, two], "position_bias.square")
    return graph.node("Unsqueeze", [square, zero], name)
