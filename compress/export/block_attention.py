"""Attention in parts, for long texts: layers with a window by blocks of tokens, layers without one by a few heads.

With blocks as long as the window, a query sees keys of its own block, of the one before and of the one after. So scores are
(tokens, 3 blocks) instead of (tokens, tokens), exact for every length: blocks beyond either end of a text are padding. Layers that see
the whole text compute the scores of a few heads at a time: of as many as fit a budget in the model's longest text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from compress.export.builder import RowGraph
from compress.export.rotary import MASKED

SCORES_BYTES = 512 << 20  # of the heads that are computed together
SMALLEST = 16  # tokens of a block: shorter ones waste more on shapes than they save
MASK = "blocks.mask.float"
END = 2**40  # beyond the last entry of every axis


@dataclass(frozen=True)
class Parts:
    """How attention of a layer is computed in parts.

    Attributes:
        window: the largest distance that is visible; None: the whole text is.
        heads: how many have their scores in memory together, where the whole text is visible.
    """

    window: int | None
    heads: int


def block_mask(graph: RowGraph, window: int) -> str:
    """Add what is added to the scores of blocks, (batch, blocks, 1, block, 3 blocks): 0 for tokens in the window. Layers share it."""
    name, size = "blocks.mask", _size(window)
    if graph.has(name):
        return name
    mask = graph.shared("Cast", ["attention_mask"], MASK, to=onnx.TensorProto.FLOAT)
    parts = graph.node("Reshape", [_padded(graph, mask, size, 1, "blocks.mask.padded"), _shape(graph, [size])], "blocks.mask.parts")
    near = _neighbours(graph, parts, "blocks.mask.near")  # (batch, blocks, 3 blocks)
    absent = graph.node("Sub", [graph.number(1.0, "one"), near], "blocks.mask.absent")
    bias = graph.node("Mul", [absent, graph.number(MASKED, "masked")], "blocks.mask.bias")
    wide = graph.node("Unsqueeze", [bias, graph.integers([2, 3], "axes.2.3")], "blocks.mask.wide")
    distance = np.abs(np.arange(3 * size)[None] - size - np.arange(size)[:, None])
    far = graph.constant(np.where(distance > window, np.float32(MASKED), np.float32(0)), "blocks.mask.window")
    return graph.add(wide, far, name)


def within_window(
    graph: RowGraph, parts: tuple[str, str, str], mask: str, shape: tuple[int, int], window: int, scale: float, name: str
) -> str:
    """Add attention within a window; returns (batch, sequence, heads * size).

    Args:
        graph: that gets the nodes.
        parts: queries, keys and values, (batch, sequence, heads, size) each.
        mask: from `block_mask`.
        shape: heads and their size.
        window: the largest distance that is visible.
        scale: of the scores.
        name: of the sublayer.
    """
    block, (heads, size) = _size(window), shape
    split = _shape(graph, [block, heads, size])
    query, key, value = parts
    queries = graph.node("Reshape", [_padded(graph, query, block, 0, f"{name}.query.padded"), split], f"{name}.query.blocks")
    query = graph.node("Transpose", [queries], f"{name}.query.by_head", perm=[0, 1, 3, 2, 4])
    near = []
    for part, values, order in (("key", key, [0, 1, 3, 4, 2]), ("value", value, [0, 1, 3, 2, 4])):
        blocks = graph.node("Reshape", [_padded(graph, values, block, 1, f"{name}.{part}.padded"), split], f"{name}.{part}.blocks")
        near.append(graph.node("Transpose", [_neighbours(graph, blocks, f"{name}.{part}.near")], f"{name}.{part}.by_head", perm=order))
    mixed = _mixed(graph, (query, *near), mask, scale, name)  # (batch, blocks, heads, block, size)
    tokens = graph.node("Transpose", [mixed], f"{name}.mixed.tokens", perm=[0, 1, 3, 2, 4])
    whole = graph.node("Reshape", [tokens, graph.integers([0, -1, heads * size], f"blocks.whole.{heads}")], f"{name}.mixed.whole")
    length, zero, axis = _length(graph), graph.integers([0], "zero"), graph.integers([1], "axis.1")
    return graph.node("Slice", [whole, zero, length, axis], f"{name}.mixed.cut")


def heads_at_once(longest: int) -> int:
    """Return how many heads' scores of the longest text, (tokens, tokens) float32 each, fit `SCORES_BYTES`; one at least."""
    return max(1, SCORES_BYTES // (4 * longest * longest))


def by_heads(graph: RowGraph, parts: tuple[str, str, str], mask: str, heads: int, at_once: int, scale: float, name: str) -> str:
    """Add attention of a few heads after the other; returns (batch, heads, queries, size).

    Args:
        graph: that gets the nodes.
        parts: queries (batch, heads, queries, size), keys (batch, heads, size, keys) and values (batch, heads, keys, size).
        mask: added to the scores, (batch, 1, 1, keys).
        heads: of the layer.
        at_once: heads whose scores are in memory together.
        scale: of the scores.
        name: of the sublayer.
    """
    if heads <= at_once:
        return _mixed(graph, parts, mask, scale, name)
    count = -(-heads // at_once)
    sizes = [heads * (number + 1) // count - heads * number // count for number in range(count)]
    lengths = graph.integers(sizes, f"blocks.heads.{heads}")
    split = [graph.split(part, lengths, [f"{part}.{number}" for number in range(count)], f"{part}.apart", axis=1) for part in parts]
    mixed = [_mixed(graph, few, mask, scale, f"{name}.{number}") for number, few in enumerate(zip(*split, strict=True))]
    return graph.node("Concat", mixed, f"{name}.mixed", axis=1)


def _mixed(graph: RowGraph, parts: tuple[str, str, str], mask: str, scale: float, name: str) -> str:
    """Add `softmax(query key + mask) value` over the last two axes."""
    query, key, value = parts
    scores = graph.node("MatMul", [query, key], f"{name}.scores")
    if scale != 1.0:
        scores = graph.node("Mul", [scores, graph.number(scale, "scale")], f"{name}.scores.scaled")
    weights = graph.node("Softmax", [graph.add(scores, mask, f"{name}.scores.masked")], f"{name}.weights", axis=-1)
    return graph.node("MatMul", [weights, value], f"{name}.mixed")


def _size(window: int) -> int:
    return max(window, SMALLEST)


def _length(graph: RowGraph) -> str:
    return graph.shared("Shape", ["input_ids"], "blocks.length", start=1, end=2)


def _shape(graph: RowGraph, tail: list[int]) -> str:
    """Return the shape (batch, blocks, *tail)."""
    return graph.integers([0, -1, *tail], f"blocks.shape.{'.'.join(map(str, tail))}")


def _padded(graph: RowGraph, value: str, size: int, around: int, name: str) -> str:
    """Fill (batch, sequence, …) with zeros up to whole blocks, and add `around` blocks of zeros at both ends."""
    others = 0 if value == MASK else 2  # axes after the sequence
    block = graph.integers([size], "blocks.size")
    rest = graph.shared("Mod", [graph.shared("Neg", [_length(graph)], "blocks.length.negative"), block], "blocks.rest")
    after = graph.shared("Add", [rest, block], "blocks.after") if around else rest
    zero = graph.integers([0], "zero")
    ends = [zero, block if around else zero, *[zero] * others, zero, after, *[zero] * others]
    return graph.node("Pad", [value, graph.shared("Concat", ends, f"blocks.padding.{around}.{others}", axis=0)], name)


def _neighbours(graph: RowGraph, blocks: str, name: str) -> str:
    """Join each block with its neighbours: (batch, blocks + 2, block, …) -> (batch, blocks, 3 blocks, …)."""
    axis, shifted = graph.integers([1], "axis.1"), []
    for start in range(3):
        begin, stop = graph.integers([start], f"blocks.from.{start}"), graph.integers([start - 2 or END], f"blocks.to.{start}")
        shifted.append(graph.node("Slice", [blocks, begin, stop, axis], f"{name}.{start}"))
    return graph.node("Concat", shifted, name, axis=2)
