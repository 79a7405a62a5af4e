"""Graphs of tests: one matmul by hand, and the logits and ranges of whole models."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from compress.inference.onnx_session import open_session, session_forward
from compress.models.int8_ranges import Range
from compress.quantize.calibrate import activation_histograms
from compress.quantize.matmuls import find_matmuls
from compress.quantize.ranges import calibrated_range
from tests import tiny


def run(model: onnx.ModelProto, family: str = "bert", count: int = 40) -> np.ndarray:
    """Return the logits of the first sentences."""
    return session_forward(open_session(model.SerializeToString(), 1, "cpu", {}))(tiny.encoded(family, count).batch(range(count)))


def ranges_of(model: onnx.ModelProto, family: str = "bert") -> dict[str, Range]:
    """Return all that was seen."""
    found = activation_histograms(model, [matmul.rows for matmul in find_matmuls(model)], tiny.encoded(family, 40))
    return {name: calibrated_range(seen, "minmax") for name, seen in found.items()}


def by_hand(addend: str | None = "bias", op: str = "Gemm", opset: int = 20, **attributes: Any) -> onnx.ModelProto:
    """Return a graph of one matmul of (n, 3) rows by a weight (3, 4)."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 3) if attributes.get("transB") else (3, 4)).astype(np.float32)
    shape = (5, 4) if addend == "residual" else (4,)
    tensors = [numpy_helper.from_array(weight, "weight")]
    if addend == "bias":
        tensors.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), "bias"))
    node = helper.make_node(op, ["x", "weight", *([addend] if addend else [])], ["y"], name="matmul", **attributes)
    inputs = [("x", [5, 3]), *([("residual", [5, 4])] if addend == "residual" else [])]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes) for name, sizes in inputs],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [5, 4])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def values_by_hand(model: onnx.ModelProto, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Run a graph of `by_hand` on uniform inputs."""
    rng = np.random.default_rng(1)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {entry.name: rng.uniform(low, high, entry.shape).astype(np.float32) for entry in session.get_inputs()}
    return np.asarray(session.run(None, feeds)[0])
