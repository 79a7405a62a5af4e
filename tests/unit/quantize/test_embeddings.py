"""Embedding tables as int8: the error of every row is bounded by its own scale."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compress.export.graph import build_graph
from compress.factorize.embeddings import factorize_embeddings
from compress.inference.onnx_session import open_session, session_forward
from compress.models.int8_ranges import Range
from compress.quantize.dynamic import dynamic_graph
from compress.quantize.embeddings import quantize_embeddings, quantize_rows
from compress.quantize.matmuls import find_matmuls
from compress.quantize.static import static_graph
from tests import tiny


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 40), st.floats(-20, 20))
def test_the_error_of_a_row_is_at_most_half_its_step(seed: int, rows: int, width: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    table = (rng.normal(size=(rows, width)) * 10**exponent * 10 ** rng.uniform(-5, 5, (rows, 1))).astype(np.float32)
    codes, scales = quantize_rows(table)
    step = np.abs(table).max(axis=1, keepdims=True) / 127
    assert codes.dtype == np.int8
    assert scales.dtype == np.float32
    assert scales.shape == (rows, 1)
    assert (np.abs(codes * scales - table) <= 0.5001 * step).all()
    assert (np.abs(codes).max(axis=1) == 127).all()  # every row uses its whole range


def test_rows_by_hand() -> None:
    table = np.array([[127.0, -1.0, 0.4], [0.0, 0.0, 0.0], [-2.54, 1.27, 0.0]], dtype=np.float32)
    codes, scales = quantize_rows(table)
    assert codes.tolist() == [[127, -1, 0], [0, 0, 0], [-127, 64, 0]]  # 63.5 goes to the even neighbour
    assert scales[:, 0].tolist() == pytest.approx([1.0, 1.0, 0.02])


def gathers(model: onnx.ModelProto) -> list[str]:
    """Return the tables that are looked up."""
    return [node.input[0] for node in model.graph.node if node.op_type == "Gather"]


def test_tables_become_int8_and_the_logits_stay_near(family: str) -> None:
    plain = build_graph(tiny.make_model(family))
    before_bytes = plain.SerializeToString()
    quantized = quantize_embeddings(plain, min_rows=50)
    assert plain.SerializeToString() == before_bytes
    onnx.checker.check_model(quantized, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in quantized.graph.initializer}
    assert types["embeddings.word.int8"] == TensorProto.INT8
    assert "embeddings.word" not in types
    batch = tiny.encoded(family, 40).batch(range(40))
    before, after = (session_forward(open_session(model.SerializeToString(), 1, "cpu", {}))(batch) for model in (plain, quantized))
    assert 0 < np.abs(before - after).max() < 0.05 * np.abs(before).max()


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_a_table_whose_rows_a_product_reads(method: str) -> None:
    """As of factorized word embeddings: what both passes add has names of its own."""
    model, data = tiny.make_model("bert"), tiny.encoded("bert", 40)
    factorize_embeddings(model, data, 6)
    plain = build_graph(model)
    ranges = {matmul.rows: Range(-4.0, 4.0) for matmul in find_matmuls(plain)}
    quantized = dynamic_graph(plain, False) if method == "dynamic" else static_graph(plain, ranges)
    quantized = quantize_embeddings(quantized, min_rows=50)
    assert any(name.endswith(".int8") for name in gathers(quantized))
    onnx.checker.check_model(quantized, full_check=True)
    batch = data.batch(range(40))
    before, after = (session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))(batch) for graph in (plain, quantized))
    assert np.linalg.norm(after - before) < 0.3 * np.linalg.norm(before)


def test_the_whole_lookup_is_within_the_bound() -> None:
    table = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    node = helper.make_node("Gather", ["table", "ids"], ["rows"], name="rows")
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 8])], [numpy_helper.from_array(table, "table")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    quantized = quantize_embeddings(model, min_rows=60)
    found = open_session(quantized.SerializeToString(), 1, "cpu", {}).run(None, {"ids": np.arange(60)})[0]
    assert (np.abs(found - table) <= 0.5001 * np.abs(table).max(axis=1, keepdims=True) / 127).all()


@pytest.mark.parametrize(("min_rows", "count"), [(1, 2), (50, 2), (129, 0), (1024, 0)])
def test_small_tables_stay_float(min_rows: int, count: int) -> None:
    """BERT looks up words (105) and types (2); positions are sliced, not looked up."""
    model = build_graph(tiny.make_model())
    words = len(tiny.vocabulary())
    expected = count if min_rows <= 2 else int(words >= min_rows)
    before = gathers(model)
    after = gathers(quantize_embeddings(model, min_rows))
    assert len([name for name in before if name in after]) == len(before) - expected


def test_a_table_that_is_looked_up_twice() -> None:
    table = numpy_helper.from_array(np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", f"ids{number}"], [f"rows{number}"], name=f"rows{number}") for number in range(2)]
    inputs = [helper.make_tensor_value_info(f"ids{number}", TensorProto.INT64, ["n"]) for number in range(2)]
    outputs = [helper.make_tensor_value_info(f"rows{number}", TensorProto.FLOAT, ["n", 8]) for number in range(2)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, [table]), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    quantized = quantize_embeddings(model, min_rows=60)
    onnx.checker.check_model(quantized, full_check=True)
    assert sorted(gathers(quantized)) == ["table.int8", "table.int8", "table.scale", "table.scale"]
