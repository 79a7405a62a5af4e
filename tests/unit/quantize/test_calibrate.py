"""Running a graph over calibration texts: real tokens only, the same for any batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compress.export.graph import build_graph
from compress.models.int8_ranges import Range
from compress.quantize import calibrate
from compress.quantize.calibrate import activation_histograms, without_padding
from compress.quantize.matmuls import find_matmuls
from compress.quantize.ranges import calibrated_range
from tests import tiny


def test_padding_is_left_out_of_rows_and_of_texts() -> None:
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    texts = np.arange(12.0).reshape(2, 3, 2)
    expected = texts[mask.astype(bool)]
    np.testing.assert_array_equal(without_padding(texts, mask), expected)
    np.testing.assert_array_equal(without_padding(texts.reshape(6, 2), mask), expected)
    np.testing.assert_array_equal(without_padding(texts[:, 0], mask), texts[:, 0])


def test_a_graph_is_counted_over_real_tokens_whatever_the_batches(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One text at a time has no padding: batches must give the same, to the last count (but for rounding at bin edges)."""
    model = build_graph(tiny.make_model(family))
    names = [matmul.rows for matmul in find_matmuls(model)]
    data = tiny.encoded(family, 20)
    before = model.SerializeToString()
    together = activation_histograms(model, names, data)
    monkeypatch.setattr(calibrate, "BATCH_TOKENS", 1)
    alone = activation_histograms(model, names, data)
    assert model.SerializeToString() == before
    assert set(together) == set(names)
    tokens = int(data.lengths.sum())
    for name in names:
        channels = together[name].channels
        assert channels is not None
        assert together[name].counts.sum() / len(channels) in (tokens, len(data))
        assert (together[name].low, together[name].high) == pytest.approx((alone[name].low, alone[name].high), rel=1e-4)
        assert together[name].counts.sum() == alone[name].counts.sum()


def test_the_ranges_are_those_of_the_values(tmp_path: Path) -> None:
    """Closed form: a matmul of an identity reads the table's rows themselves."""
    table = np.array([[1.0, -7.0], [3.0, 2.0], [100.0, 100.0]], dtype=np.float32)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], name="rows"),
        helper.make_node("MatMul", ["rows", "one"], ["out"], name="p"),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["b", "s"])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["b", "s", 2])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.eye(2, dtype=np.float32), "one")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    from compress.data.encoded import Encoded

    ids = [np.array([0, 1]), np.array([1])]  # padded with 2, whose row is far out
    data = Encoded(ids, [np.zeros_like(row) for row in ids], np.zeros(2, dtype=np.int64), pad_id=2)
    assert calibrated_range(activation_histograms(model, ["rows"], data)["rows"], "minmax") == Range(-7.0, 3.0)
