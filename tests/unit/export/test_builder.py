"""Small graphs against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from compress.export.builder import OPSET, GraphBuilder
from compress.export.weights import LinearWeights, NormWeights
from compress.inference.onnx_session import open_session

RNG = np.random.default_rng(0)


def outcome(graph: GraphBuilder, output: str, batch: np.ndarray) -> np.ndarray:
    """Close a graph over `input_ids` and run it."""
    model = graph.model(["input_ids"], {"logits": (output, ["batch", 3])})
    return open_session(model.SerializeToString(), 1, "cpu", {}).run(["logits"], {"input_ids": batch})[0]


def embedded(graph: GraphBuilder, table: np.ndarray) -> str:
    """Look ids up, (batch, sequence) -> (batch, sequence, width)."""
    return graph.node("Gather", [graph.constant(table, "table"), "input_ids"], "looked_up")


def first(graph: GraphBuilder, value: str) -> str:
    """Keep the first token, (batch, width)."""
    sliced = graph.node(
        "Slice", [value, graph.integers([0], "zero"), graph.integers([1], "one"), graph.integers([1], "axis")], f"{value}.slice"
    )
    return graph.node("Squeeze", [sliced, graph.integers([1], "axis")], f"{value}.first")


@pytest.mark.parametrize("width", [1, 3])
def test_linear_is_pytorchs(width: int) -> None:
    linear = torch.nn.Linear(width, 3)
    graph, table, ids = GraphBuilder(), RNG.normal(size=(5, width)).astype(np.float32), np.array([[1, 2], [4, 0]])
    found = outcome(graph, graph.linear(first(graph, embedded(graph, table)), LinearWeights.of(linear), "linear"), ids)
    np.testing.assert_allclose(found, linear(torch.from_numpy(table[ids[:, 0]])).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_product_adds_rows() -> None:
    weight, graph = RNG.normal(size=(3, 3)).astype(np.float32), GraphBuilder()
    table, ids = RNG.normal(size=(5, 3)).astype(np.float32), np.array([[1], [3]])
    rows = first(graph, embedded(graph, table))
    np.testing.assert_allclose(
        outcome(graph, graph.gemm(rows, (weight,), rows, "sum"), ids), table[ids[:, 0]] @ (weight + np.eye(3)), rtol=1e-5
    )


def test_two_factors_are_two_products() -> None:
    down, up, graph = RNG.normal(size=(3, 2)).astype(np.float32), RNG.normal(size=(2, 3)).astype(np.float32), GraphBuilder()
    table, ids = RNG.normal(size=(5, 3)).astype(np.float32), np.array([[1], [3]])
    rows = first(graph, embedded(graph, table))
    found = outcome(graph, graph.gemm(rows, (down, up), rows, "sum"), ids)
    np.testing.assert_allclose(found, table[ids[:, 0]] @ (down @ up + np.eye(3)), rtol=1e-4, atol=1e-5)


def test_equal_constants_are_kept_once() -> None:
    """Large ones: what is small, or differs in its values, shape or type, stays by itself."""
    graph, large = GraphBuilder(), RNG.normal(size=(16, 32)).astype(np.float32)
    assert graph.constant(large, "first") == "first"
    assert graph.constant(large.copy(), "second") == "first"
    assert graph.constant(np.ascontiguousarray(large.T), "turned") == "turned"
    assert graph.constant(large.reshape(32, 16), "reshaped") == "reshaped"
    assert graph.constant(large.view(np.int32), "integers") == "integers"
    assert graph.constant(large[0], "small") == "small"
    assert graph.constant(large[0], "other") == "other"
    assert set(graph.initializers) == {"first", "turned", "reshaped", "integers", "small", "other"}


def test_layer_norm_is_pytorchs() -> None:
    norm: Any = torch.nn.LayerNorm(3, eps=1e-2)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    graph, table, ids = GraphBuilder(), RNG.normal(size=(5, 3)).astype(np.float32), np.array([[1], [3]])
    found = outcome(graph, first(graph, graph.layer_norm(embedded(graph, table), NormWeights.of(norm), "norm")), ids)
    np.testing.assert_allclose(found, norm(torch.from_numpy(table[ids[:, 0]])).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("array", [np.zeros(1), np.zeros((2, 3)), np.zeros((2, 3)).T, np.zeros((0, 4))], ids=lambda array: str(array.shape))
def test_constants_keep_their_shape(array: np.ndarray) -> None:
    graph = GraphBuilder()
    graph.constant(array, "name")
    assert tuple(graph.initializers["name"].dims) == array.shape


def test_a_number_stays_a_number() -> None:
    graph = GraphBuilder()
    graph.constant(np.array(1), "axis")
    assert list(graph.initializers["axis"].dims) == []


def test_a_constant_of_the_same_name_stands_once() -> None:
    graph = GraphBuilder()
    graph.integers([1], "axis")
    graph.integers([1], "axis")
    assert list(graph.initializers) == ["axis"]


def test_graphs_are_checked_and_name_their_maker() -> None:
    graph = GraphBuilder()
    model = graph.model(["input_ids"], {"logits": (first(graph, embedded(graph, np.zeros((2, 3), dtype=np.float32))), ["batch", 3])})
    assert model.producer_name == "compress"
    assert model.opset_import[0].version == OPSET
    assert [dimension.dim_param for dimension in model.graph.input[0].type.tensor_type.shape.dim] == ["batch", "sequence"]
    with pytest.raises(onnx.checker.ValidationError):
        GraphBuilder().model(["input_ids"], {"logits": ("nowhere", ["batch", 3])})
