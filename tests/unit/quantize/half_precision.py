"""What fp16 and bf16 graphs have in common: checks that the tests of both formats share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from compress.export.attention import GraphForm
from compress.export.graph import build_graph
from compress.inference.onnx_session import open_session, session_forward
from compress.quantize.method_search import open_graph
from tests import tiny

Convert = Callable[[onnx.ModelProto], onnx.ModelProto]


def check_logits(convert: Convert, family: str, tolerance: float) -> None:
    """Check that the logits change, within a share of the largest, and that the fp32 graph is not edited."""
    graph = build_graph(tiny.make_model(family))
    before = graph.SerializeToString()
    half = convert(graph)
    onnx.checker.check_model(half, full_check=True)
    batch = tiny.encoded(family).batch(range(12))
    expected, logits = open_graph(graph)(batch), session_forward(open_session(half.SerializeToString(), None, "cpu", {}))(batch)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - expected).max() < tolerance * np.abs(expected).max()
    assert graph.SerializeToString() == before
    assert half.ByteSize() < 0.75 * graph.ByteSize()


def check_fused_attention(convert: Convert) -> None:
    """Check that the logits of a graph with fused attention stay close."""
    model, batch = tiny.make_model(), tiny.encoded().batch(range(12))
    expected = open_graph(build_graph(model))(batch)
    half = convert(build_graph(model, GraphForm("mha")))
    logits = session_forward(open_session(half.SerializeToString(), None, "cpu", {}))(batch)
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


def check_output_type(convert: Convert, target: str) -> None:
    """Check that a graph's outputs are float32."""
    graph = convert(build_graph(tiny.make_model(target=target)))
    assert {value.type.tensor_type.elem_type for value in graph.graph.output} == {onnx.TensorProto.FLOAT}
    assert open_graph(graph)(tiny.encoded().batch(range(3))).dtype == np.float32
