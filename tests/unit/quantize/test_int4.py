"""Int4 weights in blocks: the codes, their packing, and the graph that multiplies them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress.export.graph import build_graph
from compress.quantize.dynamic import count_quantized
from compress.quantize.int4 import BLOCK, HIGHEST, LOWEST, int4_graph, pack, quantize_blocks
from compress.quantize.matmuls import find_matmuls
from compress.quantize.method_search import open_graph
from tests import tiny


def dequantized(weight: np.ndarray, block: int = BLOCK) -> np.ndarray:
    codes, scales = quantize_blocks(weight, block)
    return (codes * scales[..., None]).reshape(weight.shape[1], -1)[:, : len(weight)].T


@given(st.integers(1, 70), st.integers(1, 5), st.sampled_from([16, 32, 64]), st.integers(0, 1000))
def test_blocks_are_no_worse_than_plain_rounding(size_in: int, size_out: int, block: int, seed: int) -> None:
    """Against the scale at which the largest weight is -8: the one that is kept has at most its squared error, in every block."""
    weight = np.random.default_rng(seed).standard_t(3, (size_in, size_out)).astype(np.float32)
    codes, scales = quantize_blocks(weight, block)
    assert codes.shape == (size_out, -(-size_in // block), block)
    assert codes.min() >= LOWEST
    assert codes.max() <= HIGHEST
    rows = np.pad(weight.T, ((0, 0), (0, -size_in % block))).reshape(size_out, -1, block)
    step = np.take_along_axis(rows, np.abs(rows).argmax(axis=2)[..., None], axis=2) / LOWEST
    plain = ((np.clip(np.rint(rows / np.where(step == 0, 1, step)), LOWEST, HIGHEST) * step - rows) ** 2).sum(axis=2)
    ours = ((codes * scales[..., None] - rows) ** 2).sum(axis=2)
    assert (ours <= plain * (1 + 1e-4) + 1e-9).all()


def test_what_four_bits_hold_is_exact() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(LOWEST, HIGHEST + 1, (3 * BLOCK, 4))
    codes[::BLOCK] = LOWEST
    weight = (codes * 2.0 ** rng.integers(-4, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(dequantized(weight), weight, rtol=1e-6)
    assert not dequantized(np.zeros((5, 2), dtype=np.float32)).any()


def test_packing_puts_the_first_of_two_in_the_low_bits() -> None:
    assert pack(np.array([[[-8, 7, 0, -1]]], dtype=np.int8)).tolist() == [[[0xF0, 0x78]]]


@pytest.mark.parametrize("size_in", [BLOCK, 40, 3 * BLOCK + 1])
def test_the_operator_multiplies_what_was_packed(size_in: int) -> None:
    """ONNX Runtime's MatMulNBits against numpy, blocks that are not full included."""
    rng = np.random.default_rng(1)
    weight, rows = (rng.normal(size=shape).astype(np.float32) for shape in ((size_in, 6), (5, size_in)))
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["rows", "w"], ["logits"], name="matmul")],
            "g",
            [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", size_in])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 6])],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    np.testing.assert_allclose(open_graph(int4_graph(model))({"rows": rows}), rows @ dequantized(weight), atol=1e-4)


def test_the_graph_of_a_model(family: str) -> None:
    """Every matmul is int4, or those of the groups that stay float are not; it computes what the rounded weights give."""
    graph = build_graph(tiny.make_model(family))
    before = graph.SerializeToString()
    count = len(find_matmuls(graph))
    assert count_quantized(int4_graph(graph)) == (count, 0)
    kept = find_matmuls(graph)[0].group
    floats = sum(matmul.group == kept for matmul in find_matmuls(graph))
    assert count_quantized(int4_graph(graph, [kept])) == (count - floats, floats)
    assert graph.SerializeToString() == before
    batch = tiny.encoded(family).batch(range(12))
    exact, found = open_graph(graph)(batch), open_graph(int4_graph(graph))(batch)
    assert np.abs(found - exact).max() > 1e-3
    rounded = onnx.ModelProto.FromString(before)
    weights = {matmul.weight for matmul in find_matmuls(graph)}
    for tensor in rounded.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(dequantized(numpy_helper.to_array(tensor)), tensor.name))
    np.testing.assert_allclose(found, open_graph(rounded)(batch), atol=1e-4)
    everything = int4_graph(graph, {matmul.group for matmul in find_matmuls(graph)})
    np.testing.assert_allclose(open_graph(everything)(batch), exact, atol=1e-6)
    onnx.checker.check_model(everything)
