"""Dynamic int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from compress.core.errors import ModelError
from compress.export.graph import build_graph
from compress.export.graph_editing import GraphEditor, name_nodes
from compress.inference.onnx_session import open_session, session_forward
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.dynamic import count_quantized, dynamic_graph
from compress.quantize.int8_weights import WeightQuantizer
from tests import tiny


def quantized(family: str, seven_bits: bool = True, kept: list[Kept] | None = None) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the float and the int8 graph of a tiny model."""
    model = tiny.make_model(family)
    if kept:
        slice_model(model, kept)
    plain = build_graph(model)
    return plain, dynamic_graph(plain, seven_bits)


def test_every_constant_product_becomes_int8(family: str) -> None:
    plain, int8 = quantized(family)
    constants = {tensor.name for tensor in plain.graph.initializer}
    matmuls = [node for node in plain.graph.node if node.op_type in ("MatMul", "Gemm")]
    weighted = [node for node in matmuls if node.input[1] in constants]
    assert count_quantized(plain) == (0, len(weighted))
    assert count_quantized(int8) == (len(weighted), 0)
    left = [node for node in int8.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(left) == len(matmuls) - len(weighted) == 2 * tiny.LAYERS  # scores and mixing


@pytest.mark.parametrize("seven_bits", [True, False])
def test_classes_mostly_agree(family: str, seven_bits: bool) -> None:
    plain, int8 = quantized(family, seven_bits)
    batch = tiny.encoded(family, 60).batch(range(60))
    before, after = (session_forward(open_session(model.SerializeToString(), 1, "cpu", {}))(batch) for model in (plain, int8))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() >= 0.85
    difference, spread = before - after, before - before.mean(axis=0)
    assert np.sqrt((difference**2).mean()) < 0.25 * np.sqrt((spread**2).mean())
    assert np.abs(difference).max() > 0


def test_weights_have_a_scale_a_channel_and_fit_the_bits() -> None:
    _, int8 = quantized("bert", seven_bits=True)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    weight, scale = arrays["layer.0.ffn.in.weight.codes"], arrays["layer.0.ffn.in.weight.scale"]
    assert weight.shape == (tiny.HIDDEN, tiny.FFN)
    assert scale.shape == (tiny.FFN,)
    assert np.abs(weight.astype(int)).max() <= 64
    wide = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized("bert", seven_bits=False)[1].graph.initializer}
    assert np.abs(wide["layer.0.ffn.in.weight.codes"].astype(int)).max() > 64


def test_pruned_shapes_are_quantized_too(family: str) -> None:
    _, int8 = quantized(family, kept=[Kept([0, 3], [1]), Kept([], []), Kept([], [5, 6])])
    batch = tiny.encoded(family).batch(range(12))
    assert np.isfinite(session_forward(open_session(int8.SerializeToString(), 1, "cpu", {}))(batch)).all()
    assert count_quantized(int8)[1] == 0


def test_the_products_run_as_one_operator_each(tmp_path: Path) -> None:
    """ONNX Runtime recognizes the form: what it runs has no integer matmul with a separate scaling."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the file suits this machine alone
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    _, int8 = quantized("bert")
    ort.InferenceSession(int8.SerializeToString(), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert sum(operators.count(name) for name in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")) == count_quantized(int8)[0]
    assert "MatMulInteger" not in operators


def test_the_numbers_are_those_of_the_formula() -> None:
    """`Y = (X_q W_q) s_x s_w` by hand, with the standard's DynamicQuantizeLinear for the rows."""
    generator = np.random.default_rng(0)
    rows, weight = generator.normal(size=(3, 8)).astype(np.float32), generator.normal(size=(8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="matmul")],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (found,) = ort.InferenceSession(dynamic_graph(model, True).SerializeToString()).run(None, {"x": rows})
    low, high = min(rows.min(), 0), max(rows.max(), 0)
    scale = (high - low) / 255
    zero = np.clip(np.rint(-low / scale), 0, 255)
    codes = np.clip(np.rint(rows / scale) + zero, 0, 255)
    scales = np.abs(weight).max(axis=0) / 64
    assert np.allclose(found, ((codes - zero) @ np.rint(weight / scales)) * scale * scales, rtol=1e-5, atol=1e-6)


def test_the_float_graph_is_left_as_it_is_and_weights_are_quantized_once() -> None:
    plain = build_graph(tiny.make_model("bert"))
    before = plain.SerializeToString()
    weights = WeightQuantizer(seven_bits=True)
    dynamic_graph(plain, True, weights=weights)
    assert plain.SerializeToString() == before
    codes, _ = weights.codes(GraphEditor(plain), "layer.0.ffn.in.weight")
    codes[:] = 0  # the kept ones, which the next graph must take
    again = {tensor.name: tensor for tensor in dynamic_graph(plain, True, weights=weights).graph.initializer}
    assert not numpy_helper.to_array(again["layer.0.ffn.in.weight.codes"]).any()


def test_nodes_without_names_and_operators_that_are_too_old(tmp_path: Path) -> None:
    plain = build_graph(tiny.make_model("bert"))
    expected = count_quantized(dynamic_graph(plain, True))
    for node in plain.graph.node:
        node.name = ""
    name_nodes(plain)
    assert len({node.name for node in plain.graph.node}) == len(plain.graph.node)
    assert count_quantized(dynamic_graph(plain, True)) == expected
    plain.opset_import[0].version = 10
    with pytest.raises(ModelError, match="opset 10, and dynamic int8 needs 11"):
        dynamic_graph(plain, True)
