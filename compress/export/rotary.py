"""Rotary positions (Su et al. 2021, arXiv 2104.09864) and sliding windows in a graph, for any length up to the model's longest.

Cosines and sines are tables with a row for each position; which keys a query may see is computed from their distance. So nothing in the
file grows with the square of the length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch

from compress.export.builder import MICROSOFT, RowGraph
from compress.export.positions import token_distances
from compress.export.weights import array_of
from compress.models.family import family_of
from compress.models.layers import find_submodule
from compress.models.types import TransformersModel

SLIDING = "sliding_attention"
MASKED = -10_000.0  # added to the scores of masked keys; its exponential is 0 in float32, and twice it fits float16


@dataclass(frozen=True)
class Rotation:
    """What rotates the queries and keys of one kind of layer, as names of values.

    Attributes:
        tables: the cosines and sines, (longest, size / 2) each.
        factors: of the halves (x1, x2) of a head and of (x2, x1): cosines and signed sines, (sequence, 1, size) each; where tokens were
            dropped, (batch, sequence, 1, size).
    """

    tables: tuple[str, str]
    factors: tuple[str, str]

    def of_heads(self, graph: RowGraph, states: str, size: int, name: str) -> str:
        """Rotate (batch, sequence, heads, size) by standard operators: `x cos + (x2, x1) (-sin, sin)`."""
        halves = graph.split(
            states, graph.integers([size // 2] * 2, f"halves.{size}"), [f"{name}.first", f"{name}.second"], f"{name}.halves"
        )
        turned = graph.node("Concat", halves[::-1], f"{name}.turned", axis=-1)
        along = graph.node("Mul", [states, self.factors[0]], f"{name}.along")
        return graph.add(along, graph.node("Mul", [turned, self.factors[1]], f"{name}.across"), name)

    def of_rows(self, graph: RowGraph, states: str, name: str) -> str:
        """Rotate (batch, sequence, heads * size) by ONNX Runtime's own operator."""
        positions = graph.positions or graph.integers([0], "rotation.start")
        return graph.node("RotaryEmbedding", [states, positions, *self.tables], name, domain=MICROSOFT)


def rotation(graph: RowGraph, model: TransformersModel, kind: str) -> Rotation:
    """Add the tables of a kind of layer, once for the graph, and its factors, once for each stage."""
    name = f"rotation.{kind}" if kind else "rotation"
    cosines, sines = rotation_tables(model, kind)
    tables = graph.constant(cosines, f"{name}.cosines"), graph.constant(sines, f"{name}.sines")
    name += graph.stage
    if not graph.has(f"{name}.signed"):
        zero, middle = graph.integers([0], "rotation.zero"), graph.integers([1], "rotation.middle")
        if graph.positions:
            middle = graph.integers([2], "axis.2")
            cosine = graph.node("Gather", [tables[0], graph.positions], f"{name}.cosine")
            sine = graph.node("Gather", [tables[1], graph.positions], f"{name}.sine")
        else:
            length = graph.length("rotation.length")
            cosine = graph.node("Slice", [tables[0], zero, length, zero], f"{name}.cosine")
            sine = graph.node("Slice", [tables[1], zero, length, zero], f"{name}.sine")
        wide = graph.node("Concat", [cosine, cosine], f"{name}.cosine.wide", axis=-1)
        signed = graph.node("Concat", [graph.node("Neg", [sine], f"{name}.sine.negative"), sine], f"{name}.sine.wide", axis=-1)
        graph.node("Unsqueeze", [wide, middle], f"{name}.factors")
        graph.node("Unsqueeze", [signed, middle], f"{name}.signed")
    return Rotation(tables, (f"{name}.factors", f"{name}.signed"))


def rotation_tables(model: TransformersModel, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines and sines of every position, (longest, size / 2) float32 each, as transformers computes them."""
    rotary = find_submodule(model, f"{family_of(model.config.model_type).encoder}.rotary_emb")
    prefix = f"{kind}_" if kind else ""  # ModernBERT has frequencies for each kind of layer
    frequencies = getattr(rotary, f"{prefix}inv_freq").float().cpu()
    scale = getattr(rotary, f"{prefix}attention_scaling")
    angles = torch.arange(model.config.max_position_embeddings)[:, None].float() * frequencies
    return array_of(angles.cos() * scale), array_of(angles.sin() * scale)


def window_mask(graph: RowGraph, window: int, padding: str, first_only: bool) -> str:
    """Add a mask that also hides keys further than `window` from the query: (batch, 1, queries, keys). Equal layers share it.

    Args:
        graph: that gets the nodes.
        window: the largest distance that is visible.
        padding: the mask of padding, (batch, 1, 1, keys).
        first_only: only for the queries of the first token.
    """
    name = f"mask.window.{'first' if first_only else 'all'}{graph.stage}"
    if graph.has(name):
        return name
    distance = _dropped_distances(graph, first_only, name) if graph.positions else _distances(graph, first_only, name)
    far = graph.node("Greater", [distance, graph.constant(np.array(window, dtype=np.int64), "mask.window.size")], f"{name}.far")
    hidden = graph.node("Cast", [far], f"{name}.hidden", to=onnx.TensorProto.FLOAT)
    return graph.add(graph.node("Mul", [hidden, graph.number(MASKED, "masked")], f"{name}.bias"), padding, name)


def _distances(graph: RowGraph, first_only: bool, name: str) -> str:
    """Return how far keys are from queries: (queries, keys), or (keys,) for the first token."""
    scalar = graph.shared("Squeeze", [graph.length("rotation.length")], "mask.window.length")
    zero, one = (graph.constant(np.array(number, dtype=np.int64), f"mask.window.{number}") for number in (0, 1))
    keys = graph.shared("Range", [zero, scalar, one], "mask.window.keys")
    if first_only:
        return keys
    queries = graph.node("Unsqueeze", [keys, graph.integers([1], "axis.1")], f"{name}.queries")
    return graph.node("Abs", [graph.node("Sub", [keys, queries], f"{name}.difference")], f"{name}.distance")


def _dropped_distances(graph: RowGraph, first_only: bool, name: str) -> str:
    """Return the same where tokens were dropped, for each text: (batch, 1, queries, keys)."""
    distances = graph.node("Abs", [token_distances(graph, first_only)], f"{name}.distance")
    return graph.node("Unsqueeze", [distances, graph.integers([1], "axis.1")], f"{name}.heads")
