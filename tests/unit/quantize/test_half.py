"""fp16 and bf16 graphs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compress.core.errors import ModelError
from compress.export.attention import GraphForm
from compress.export.graph import build_graph
from compress.inference.onnx_session import open_session, session_forward
from compress.quantize.bf16 import bf16_graph, to_bf16
from compress.quantize.fp16 import fp16_graph
from compress.quantize.method_search import open_graph
from tests import tiny

Maker = Callable[[onnx.ModelProto], onnx.ModelProto]
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays(np.float32, 8, elements=FLOATS))
def test_bfloat16_is_torchs(array: np.ndarray) -> None:
    import torch

    expected = torch.from_numpy(array.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(to_bf16(array), expected)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize(("make", "most"), [(fp16_graph, 0.01), (bf16_graph, 0.1)])
def test_every_family_answers_nearly_the_same(make: Maker, most: float, family: str) -> None:
    graph = build_graph(tiny.make_model(family))
    before = graph.SerializeToString()
    half = make(graph)
    onnx.checker.check_model(half, full_check=True)
    batch = tiny.encoded(family).batch(range(12))
    expected, found = open_graph(graph)(batch), session_forward(open_session(half.SerializeToString(), None, "cpu", {}))(batch)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < most * np.abs(expected).max()
    assert graph.SerializeToString() == before
    assert half.ByteSize() < 0.75 * graph.ByteSize()


@pytest.mark.parametrize("make", [fp16_graph, bf16_graph])
def test_fused_attention_stays_close(make: Maker) -> None:
    model, batch = tiny.make_model(), tiny.encoded().batch(range(12))
    expected = open_graph(build_graph(model))(batch)
    half = make(build_graph(model, GraphForm("mha")))
    logits = session_forward(open_session(half.SerializeToString(), None, "cpu", {}))(batch)
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("target", ["labels", "value", "tags", "span"])
@pytest.mark.parametrize("make", [fp16_graph, bf16_graph])
def test_every_kind_gives_float32(make: Maker, target: str) -> None:
    graph = make(build_graph(tiny.make_model(target=target)))
    assert {value.type.tensor_type.elem_type for value in graph.graph.output} == {onnx.TensorProto.FLOAT}
    assert open_graph(graph)(tiny.encoded().batch(range(3))).dtype == np.float32


def test_a_shared_table_and_weight_are_cast_once() -> None:
    graph = build_graph(tiny.make_model())
    names = [node.output[0] for node in bf16_graph(graph).graph.node]
    assert len(set(names)) == len(names)


def test_weights_beyond_float16_are_named() -> None:
    model = tiny.make_model()
    model.bert.encoder.layer[1].intermediate.dense.weight.data[0, 0] = 1e5
    with pytest.raises(ModelError, match=r"'layer\.1\.ffn\.in\.weight' exceed 65504, the largest number of float16") as caught:
        fp16_graph(build_graph(model))
    assert "bf16" in (caught.value.hint or "")
    bf16_graph(build_graph(model))
