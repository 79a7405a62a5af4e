"""Which matmuls a graph has, their groups, and their rewriting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from compress.export.graph import build_graph
from compress.export.graph_editing import GraphEditor
from compress.quantize.dynamic import count_quantized
from compress.quantize.matmuls import find_matmuls, group_of, is_transposed, split_gemms, transpose_weights
from tests import tiny
from tests.unit.quantize.graphs import by_hand, values_by_hand


@pytest.mark.parametrize(
    ("node", "group"),
    [
        ("layer.3.attention.query", "layer.3 qkv"),
        ("layer.3.attention.value", "layer.3 qkv"),
        ("layer.3.attention.qkv", "layer.3 qkv"),
        ("layer.3.attention.out", "layer.3 attention out"),
        ("layer.10.ffn.in", "layer.10 ffn in"),
        ("layer.10.ffn.out", "layer.10 ffn out"),
        ("pooler", "pooler"),
        ("/bert/encoder/MatMul_7", "/bert/encoder/MatMul_7"),
    ],
)
def test_groups(node: str, group: str) -> None:
    assert group_of(node) == group


def test_products_are_those_with_constant_weights(family: str) -> None:
    model = build_graph(tiny.make_model(family))
    found = find_matmuls(model)
    layers = {matmul.group for matmul in found if matmul.group.startswith("layer.")}
    assert layers == {f"layer.{n} {part}" for n in range(tiny.LAYERS) for part in ("qkv", "attention out", "ffn in", "ffn out")}
    assert len(found) == count_quantized(model)[1]


@pytest.mark.parametrize("attributes", [{"transA": 1}, {"alpha": 2.0}, {"beta": 0.5}])
def test_other_gemms_are_let_be(attributes: dict[str, Any]) -> None:
    model = by_hand()
    model.graph.node[0].attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    assert find_matmuls(model) == []


@pytest.mark.parametrize("addend", ["bias", "residual", None])
@pytest.mark.parametrize("transposed", [False, True])
def test_splitting_and_turning_change_no_value(addend: str | None, transposed: bool) -> None:
    model = by_hand(addend, transB=int(transposed))
    before = values_by_hand(model)
    editor = GraphEditor(model)
    transpose_weights(editor)
    assert not is_transposed(editor.nodes[0])
    np.testing.assert_array_equal(values_by_hand(editor.finish()), before)
    split_gemms(editor, ["matmul"])
    assert [node.op_type for node in editor.nodes] == (["MatMul", "Add"] if addend else ["MatMul"])
    np.testing.assert_allclose(values_by_hand(editor.finish()), before, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(values_by_hand(model), before)
