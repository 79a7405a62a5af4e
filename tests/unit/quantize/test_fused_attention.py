"""Attention as one int8 operator computes what the separate operators compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from compress.export.attention import GraphForm
from compress.export.graph import build_graph
from compress.models.token_reduction import set_token_shares
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.dynamic import count_quantized, dynamic_graph
from compress.quantize.fused_attention import OPERATOR, fuse_attention
from compress.quantize.static import static_graph
from tests import tiny
from tests.unit.quantize.graphs import ranges_of, run

PLAIN_ATTENTION = ("bert", "roberta", "electra", "distilbert")  # no relative or rotary positions
METHODS = ("dynamic", "static")


def int8(model: Any, method: str, form: GraphForm, family: str = "bert", **options: Any) -> onnx.ModelProto:
    """Return the int8 graph of a model."""
    plain = build_graph(model, form)
    return dynamic_graph(plain, True) if method == "dynamic" else static_graph(plain, ranges_of(plain, family), **options)


def count(graph: onnx.ModelProto, op_type: str) -> int:
    return [node.op_type for node in graph.graph.node].count(op_type)


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Check that logits are equal, but for a text in twenty of which an activation is rounded the other way."""
    differences = np.abs(found - expected).max(axis=tuple(range(1, found.ndim)))
    assert (differences > 1e-4).mean() <= 0.05
    assert differences.max() < 0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("qkv", "scale"), [("separate", "folded"), ("packed", "scores"), ("separate", "scores")])
@pytest.mark.parametrize("family", PLAIN_ATTENTION)
def test_the_logits_stay_the_same(family: str, method: str, qkv: Any, scale: Any) -> None:
    graph = int8(tiny.make_model(family), method, GraphForm(qkv=qkv, scale=scale), family)
    fused = fuse_attention(graph)
    assert fused is not None
    assert count(fused, OPERATOR) == tiny.LAYERS - 1  # the last layer computes the first token only
    assert count(fused, "Softmax") == 1
    assert count_quantized(fused)[1] == count_quantized(graph)[1]
    assert qkv == "packed" or count_quantized(fused) == count_quantized(graph)
    assert_same(run(fused, family), run(graph, family))  # a batch with padding


@pytest.mark.parametrize("method", METHODS)
def test_each_layer_keeps_its_own_heads(method: str) -> None:
    model = tiny.make_model("bert", target="tags")
    slice_model(model, [Kept([0, 2, 3], [1]), Kept([], [4]), Kept([1], [])])
    graph = int8(model, method, GraphForm())
    fused = fuse_attention(graph)
    assert fused is not None
    assert count(fused, OPERATOR) == 2  # the second layer has no heads
    assert count(fused, "Softmax") == 0
    assert_same(run(fused), run(graph))


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family not in PLAIN_ATTENTION])
def test_other_attention_stays_or_computes_the_same(family: str) -> None:
    graph = int8(tiny.make_model(family), "dynamic", GraphForm(), family)
    fused = fuse_attention(graph)
    if fused is not None:
        assert_same(run(fused, family), run(graph, family))


@pytest.mark.parametrize("options", [{"symmetric": True}, {"keep_float": [f"layer.{number} qkv" for number in range(tiny.LAYERS)]}])
def test_what_the_operator_does_not_take_stays(options: dict[str, Any]) -> None:
    assert fuse_attention(int8(tiny.make_model("bert"), "static", GraphForm(), **options)) is None


def test_a_float_graph_stays() -> None:
    assert fuse_attention(build_graph(tiny.make_model("bert"))) is None


@pytest.mark.parametrize("edit", ["query order", "other rows", "mask"])
def test_a_graph_that_computes_something_else_stays(edit: str) -> None:
    graph = int8(tiny.make_model("bert"), "dynamic", GraphForm())
    for node in graph.graph.node:
        if edit == "query order" and node.op_type == "Transpose":
            node.attribute[0].ints[:] = [0, 3, 2, 1]
        if edit == "other rows" and node.name.endswith("attention.key.int32"):
            node.input[2] = "other"
        if edit == "mask" and node.op_type == "Sub":
            node.op_type = "Add"
    assert fuse_attention(graph) is None


def test_its_products_are_exact_where_processors_saturate(tmp_path: Any) -> None:
    """ONNX Runtime makes the operator's weights unsigned, as those of the other matmuls."""
    fused = fuse_attention(dynamic_graph(build_graph(tiny.make_model("bert")), False))
    assert fused is not None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    options.add_session_config_entry("session.x64quantprecision", "1")
    onnxruntime.InferenceSession(fused.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(options.optimized_model_filepath).graph
    types = {tensor.name: tensor.data_type for tensor in optimized.initializer}
    weights = [types[node.input[1]] for node in optimized.node if node.op_type == OPERATOR]
    assert weights == [onnx.TensorProto.UINT8] * (tiny.LAYERS - 1)


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_see_fewer_tokens_have_masks_of_their_own(method: str) -> None:
    model = tiny.make_model(num_hidden_layers=5)
    set_token_shares(model, [1.0, 0.7, 0.7, 0.5, 0.5])
    graph = int8(model, method, GraphForm())
    fused = fuse_attention(graph)
    assert fused is not None
    assert count(fused, OPERATOR) == 2  # not where tokens are chosen by the weights, nor in the last layer
    assert_same(run(fused, "bert"), run(graph, "bert"))
