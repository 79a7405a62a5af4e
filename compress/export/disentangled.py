"""The relative positions of disentangled attention in a graph, for any length: one row of distances becomes a matrix.

The scores of a query with the keys of all distances -s … s - 1 are one matmul of (s, 2s). Row i of the result is needed from column
`s - i` on: dropping the first s entries and cutting the rest into rows of 2s - 1 moves each row one entry further. This copies whole rows,
where a gather would look up every pair of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from compress.export.builder import RowGraph
from compress.export.positions import token_distances
from compress.export.weights import array_of
from compress.models.disentangled import buckets_by_distance
from compress.models.types import TransformersModel

END = 2**40  # beyond the last entry of every axis


@dataclass(frozen=True)
class DistanceRows:
    """The rows of the tables of keys and of queries by the distance of query and key, int64.

    Attributes:
        falling: rows of the keys for the distances L … 1 - L, (2 L,).
        rising: rows of the queries for the distances -L … L - 1, (2 L,).
        first: both for the distances 0 … 1 - L of the first token, (L,) each.
    """

    falling: np.ndarray
    rising: np.ndarray
    first: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, model: TransformersModel) -> DistanceRows:
        """Compute them for a model."""
        longest: int = model.config.max_position_embeddings
        rising = torch.arange(-longest, longest)
        keys, queries = buckets_by_distance(model, -rising)[0], buckets_by_distance(model, rising)[1]
        first = buckets_by_distance(model, -torch.arange(longest))
        return cls(array_of(keys), array_of(queries), (array_of(first[0]), array_of(first[1])))


@dataclass(frozen=True)
class PositionTerms:
    """The terms of relative positions in the scores of one layer.

    Attributes:
        keys, queries: by bucket, (2 * span, heads * size) float32; None without this term.
        rows: by distance.
        query_scale: of the queries of positions: what the queries of contents are scaled by.
        scale: of the terms, if the queries are not scaled.
    """

    keys: np.ndarray | None
    queries: np.ndarray | None
    rows: DistanceRows
    query_scale: float
    scale: float

    def add_to(self, graph: RowGraph, mask: str, query: str, key: str, shape: tuple[int, int], first_only: bool, name: str) -> str:
        """Add the terms to a mask; returns (batch, heads, queries, keys).

        Args:
            graph: that gets the nodes.
            mask: the mask of padding, (batch, 1, 1, keys).
            query: rows of the queries: of every token, or of the first ones.
            key: rows of the keys.
            shape: heads and their size.
            first_only: whether the queries are those of the first tokens.
            name: of the sublayer.
        """
        terms = []
        of_keys, of_queries = (self._kept_of_keys, self._kept_of_queries) if graph.positions else (self._of_keys, self._of_queries)
        if self.keys is not None:
            terms.append(of_keys(graph, query, shape, first_only, f"{name}.c2p"))
        if self.queries is not None:
            terms.append(of_queries(graph, key, shape, first_only, f"{name}.p2c"))
        total = terms[0] if len(terms) == 1 else graph.add(terms[0], terms[1], f"{name}.positions")
        if self.scale != 1.0:
            total = graph.node("Mul", [total, graph.number(self.scale, "positions.scale")], f"{name}.positions.scaled")
        return graph.add(total, mask, f"{name}.positions.masked")

    def _of_keys(self, graph: RowGraph, query: str, shape: tuple[int, int], first_only: bool, name: str) -> str:
        """Add the scores of contents with the keys of positions."""
        assert self.keys is not None  # noqa: S101 (the caller checks)
        heads, size = shape
        index = _first(graph, self.rows.first[0], "keys") if first_only else _window(graph, self.rows.falling, "falling")
        table = _by_head(graph, graph.constant(self.keys, f"{name}.table"), index, shape, name)
        if first_only:
            single = graph.node("Reshape", [query, graph.integers([-1, heads, 1, size], f"first.{heads}")], f"{name}.query")
            return graph.node("MatMul", [single, table], name)
        return _skewed(graph, graph.node("MatMul", [_heads_of(graph, query, shape, f"{name}.query"), table], f"{name}.wide"), name)

    def _of_queries(self, graph: RowGraph, key: str, shape: tuple[int, int], first_only: bool, name: str) -> str:
        """Add the scores of the queries of positions with contents."""
        assert self.queries is not None  # noqa: S101 (the caller checks)
        heads, size = shape
        table = graph.constant((self.queries * self.query_scale).astype(np.float32), f"{name}.table")
        if first_only:
            rows = graph.node("Gather", [table, _first(graph, self.rows.first[1], "queries")], f"{name}.rows")
            texts = graph.shaped(key, [heads * size], f"{name}.key")
            products = graph.shaped(graph.node("Mul", [texts, rows], f"{name}.products"), [heads, size], f"{name}.products.heads")
            sums = graph.node("ReduceSum", [products, graph.integers([-1], "axis.last")], f"{name}.sums", keepdims=0)
            turned = graph.node("Transpose", [sums], f"{name}.turned", perm=[0, 2, 1])
            return graph.node("Unsqueeze", [turned, graph.integers([2], "axis.2")], name)
        columns = _by_head(graph, table, _window(graph, self.rows.rising, "rising"), shape, name)
        wide = graph.node("MatMul", [_heads_of(graph, key, shape, f"{name}.key"), columns], f"{name}.wide")
        return graph.node("Transpose", [_skewed(graph, wide, f"{name}.by_key")], name, perm=[0, 1, 3, 2])

    def _kept_of_keys(self, graph: RowGraph, query: str, shape: tuple[int, int], first_only: bool, name: str) -> str:
        """Add the scores of contents with the keys of positions where tokens were dropped."""
        assert self.keys is not None  # noqa: S101 (the caller checks)
        heads, size = shape
        if first_only:
            queries = graph.node("Reshape", [query, graph.integers([-1, heads, 1, size], f"first.{heads}")], f"{name}.query")
        else:
            queries = _heads_of(graph, query, shape, f"{name}.query")
        wide = graph.node("MatMul", [queries, _all_buckets(graph, self.keys, shape, name)], f"{name}.wide")
        # keys of the distances L … 1 - L from query to key are in falling order: that of -d has the index L + d
        return _picked(graph, wide, self.rows.falling, token_distances(graph, first_only), heads, name)

    def _kept_of_queries(self, graph: RowGraph, key: str, shape: tuple[int, int], first_only: bool, name: str) -> str:
        """Add the scores of the queries of positions with contents where tokens were dropped."""
        assert self.queries is not None  # noqa: S101 (the caller checks)
        table = (self.queries * self.query_scale).astype(np.float32)
        keys = _heads_of(graph, key, shape, f"{name}.key")
        wide = graph.node("MatMul", [keys, _all_buckets(graph, table, shape, name)], f"{name}.wide")
        turned = graph.node("Transpose", [token_distances(graph, first_only)], f"{name}.distances", perm=[0, 2, 1])
        back = graph.node("Neg", [turned], f"{name}.distances.negative")
        return graph.node("Transpose", [_picked(graph, wide, self.rows.rising, back, shape[0], f"{name}.by_key")], name, perm=[0, 1, 3, 2])


def _all_buckets(graph: RowGraph, table: np.ndarray, shape: tuple[int, int], name: str) -> str:
    """Add a table, (buckets, heads * size), as (heads, size, buckets)."""
    return graph.constant(np.ascontiguousarray(table.reshape(len(table), *shape).transpose(1, 2, 0)), f"{name}.buckets")


def _picked(graph: RowGraph, wide: str, rows: np.ndarray, distances: str, heads: int, name: str) -> str:
    """Return of (batch, heads, n, buckets) the bucket of each distance, (batch, heads, n, m).

    Args:
        graph: that gets the nodes.
        wide: scores with all buckets.
        rows: the bucket of the distance d at the index `L + d`, (2 L,).
        distances: (batch, n, m).
        heads: their number.
        name: of the result.
    """
    index = graph.add(distances, graph.integers([len(rows) // 2], "positions.longest"), f"{name}.index")
    buckets = graph.node("Gather", [graph.constant(rows, f"{name}.bucket_rows"), index], f"{name}.bucket")
    by_head = graph.node("Unsqueeze", [buckets, graph.integers([1], "axis.1")], f"{name}.bucket.heads")
    copies = graph.node("Expand", [by_head, graph.integers([1, heads, 1, 1], f"positions.copies.{heads}")], f"{name}.bucket.copies")
    return graph.node("GatherElements", [wide, copies], name, axis=3)


def _length(graph: RowGraph) -> str:
    return graph.shared("Shape", ["input_ids"], "positions.length", start=1, end=2)


def _window(graph: RowGraph, rows: np.ndarray, name: str) -> str:
    """Return the middle 2s of 2L entries."""
    longest = graph.integers([len(rows) // 2], "positions.longest")
    start = graph.shared("Sub", [longest, _length(graph)], "positions.start")
    end = graph.shared("Add", [longest, _length(graph)], "positions.stop")
    table, axis = graph.constant(rows, f"positions.{name}"), graph.integers([0], "positions.axis")
    return graph.shared("Slice", [table, start, end, axis], f"positions.{name}.rows")


def _first(graph: RowGraph, rows: np.ndarray, name: str) -> str:
    """Return the first s of L entries."""
    table, zero = graph.constant(rows, f"positions.first.{name}"), graph.integers([0], "positions.axis")
    return graph.shared("Slice", [table, zero, _length(graph), zero], f"positions.first.{name}.rows")


def _by_head(graph: RowGraph, table: str, index: str, shape: tuple[int, int], name: str) -> str:
    """Look up rows of a table, (n, heads * size), and return them as columns of each head, (1, heads, size, n).

    The first axis is for ONNX Runtime: opening a float16 graph, it crashes at a product of a transposed value with one of fewer axes.
    """
    rows = graph.node("Gather", [table, index], f"{name}.rows")
    split = graph.node("Reshape", [rows, graph.integers([1, -1, *shape], f"positions.{shape[0]}")], f"{name}.rows.heads")
    return graph.node("Transpose", [split], f"{name}.columns", perm=[0, 2, 3, 1])


def _heads_of(graph: RowGraph, rows: str, shape: tuple[int, int], name: str) -> str:
    """Return (batch, heads, sequence, size)."""
    return graph.node("Transpose", [graph.shaped(rows, list(shape), f"{name}.split")], name, perm=[0, 2, 1, 3])


def _skewed(graph: RowGraph, wide: str, name: str) -> str:
    """Return (batch, heads, s, s) of (batch, heads, s, 2s): entry j of row i is entry `j - i + s`."""
    length, last = _length(graph), graph.integers([3], "axis.3")
    flat = graph.node("Reshape", [wide, graph.integers([0, 0, -1], "positions.flat")], f"{name}.flat")
    cut = graph.node("Slice", [flat, length, graph.integers([END], "positions.end"), graph.integers([2], "axis.2")], f"{name}.cut")
    ends = graph.integers([0, 0], "positions.same"), graph.integers([-1], "positions.rest")
    shape = graph.shared("Concat", [ends[0], length, ends[1]], "positions.rows_shape", axis=0)
    rows = graph.node("Reshape", [cut, shape], f"{name}.shorter")
    return graph.node("Slice", [rows, graph.integers([0], "positions.axis"), length, last], name)
