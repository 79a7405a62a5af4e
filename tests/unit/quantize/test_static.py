"""Static int8."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from compress.core.errors import ModelError
from compress.export.graph import build_graph
from compress.export.graph_editing import GraphEditor
from compress.models.int8_ranges import Range, affine
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.dynamic import count_quantized
from compress.quantize.int8_weights import WeightQuantizer
from compress.quantize.matmuls import find_matmuls
from compress.quantize.static import quantizable_matmuls, static_graph
from tests import tiny
from tests.unit.quantize.graphs import by_hand, ranges_of, run, values_by_hand


def gap(model: onnx.ModelProto, other: onnx.ModelProto, family: str = "bert") -> float:
    """Return the difference of two models' logits, over the spread of the first's; root mean squares."""
    before, after = run(model, family), run(other, family)
    return float(np.sqrt(((before - after) ** 2).mean() / ((before - before.mean(axis=0)) ** 2).mean()))


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.booleans())
def test_a_range_becomes_a_scale_that_keeps_zero_exact(low: float, width: float, symmetric: bool) -> None:
    found = Range(low, low + width)
    scale, zero = affine(found, symmetric)
    smallest, largest = (-128, 127) if symmetric else (0, 255)
    assert zero.dtype == (np.int8 if symmetric else np.uint8)
    assert smallest <= int(zero) <= largest
    step = float(scale)
    ends = step * (smallest - int(zero)), step * (largest - int(zero))
    assert ends[0] <= min(found.low, 0) + 0.51 * step
    assert ends[1] >= max(found.high, 0) - 0.51 * step
    if symmetric:
        assert zero == 0


def test_a_range_of_nothing() -> None:
    for symmetric in (False, True):
        assert float(affine(Range(0.0, 0.0), symmetric)[0]) > 0


@pytest.mark.parametrize("addend", ["bias", "residual", None])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_one_product_is_what_the_integers_say(addend: str | None, transposed: bool, symmetric: bool) -> None:
    model = by_hand(addend, transB=int(transposed))
    made = static_graph(model, {"x": Range(-1.0, 1.0)}, symmetric=symmetric)
    onnx.checker.check_model(made, full_check=True)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    weight = weight.T if transposed else weight
    steps = np.abs(weight).max(axis=0) / 127
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
    # Half a step of the activations over the weights, half a step of the weights over the activations, one of the bias.
    bound = 0.5 * (2 / 254) * np.abs(weight).sum(axis=0) + 0.5 * steps * np.abs(x).sum(axis=1)[:, None] + 2 * steps / 127 + 1e-4
    assert (np.abs(values_by_hand(made) - values_by_hand(model)) <= bound).all()
    assert count_quantized(made) == (1, 0)


def test_values_beyond_the_range_are_cut_off() -> None:
    model = by_hand(None, op="MatMul")
    made = static_graph(model, {"x": Range(-1.0, 1.0)})
    far = values_by_hand(made, 5.0, 6.0)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    np.testing.assert_allclose(far, np.broadcast_to(weight.sum(axis=0), far.shape), atol=0.03)


def test_a_bias_too_large_for_an_integer_is_added_in_float() -> None:
    model = by_hand()
    huge = numpy_helper.from_array(np.full(4, 1e9, dtype=np.float32), "bias")
    model.graph.initializer[1].CopyFrom(huge)
    made = static_graph(model, {"x": Range(-1.0, 1.0)})
    assert [node.op_type for node in made.graph.node][-2:] == ["MatMul", "Add"]
    np.testing.assert_allclose(values_by_hand(made), values_by_hand(model), rtol=1e-6)


def test_old_opsets_are_refused() -> None:
    with pytest.raises(ModelError, match="opset 12"):
        static_graph(by_hand(opset=12), {"x": Range(-1.0, 1.0)})


@pytest.mark.parametrize("seven_bits", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_static_logits_stay_near(family: str, seven_bits: bool, symmetric: bool) -> None:
    model = build_graph(tiny.make_model(family))
    before = model.SerializeToString()
    made = static_graph(model, ranges_of(model, family), WeightQuantizer(seven_bits), symmetric)
    onnx.checker.check_model(made, full_check=True)
    assert model.SerializeToString() == before
    assert count_quantized(made) == (len(quantizable_matmuls(GraphEditor(model))), int(family == "electra"))
    assert 0 < gap(model, made, family) < (0.25 if seven_bits or symmetric else 0.15)
    codes = [numpy_helper.to_array(tensor) for tensor in made.graph.initializer if tensor.name.endswith("weight.codes")]
    assert max(np.abs(array.astype(int)).max() for array in codes) == (64 if seven_bits else 127)


def test_every_product_runs_in_integers(family: str, tmp_path: Any) -> None:
    """What ONNX Runtime makes of the graph: no float matmul but scores and mixing, no weight that is turned back into floats."""
    model = build_graph(tiny.make_model(family))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(static_graph(model, ranges_of(model, family)).SerializeToString(), options)
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node]
    assert kinds.count("QGemm") + kinds.count("MatMulIntegerToFloat") == len(quantizable_matmuls(GraphEditor(model)))
    assert kinds.count("Gemm") == int(family == "electra")  # its projection of the embeddings
    assert "DequantizeLinear" not in kinds


def test_groups_in_float_are_as_they_were(family: str) -> None:
    model = build_graph(tiny.make_model(family))
    ranges = ranges_of(model, family)
    groups = list(dict.fromkeys(matmul.group for matmul in find_matmuls(model)))
    everything = static_graph(model, ranges, keep_float=groups)
    np.testing.assert_allclose(run(everything, family), run(model, family), rtol=1e-5, atol=1e-5)
    one = static_graph(model, ranges, keep_float=["layer.1 ffn out"])
    assert count_quantized(one)[0] == len(quantizable_matmuls(GraphEditor(model))) - 1
    assert {matmul.group for matmul in find_matmuls(one)} - {"embeddings.project"} == {"layer.1 ffn out"}


def test_pruned_shapes_are_quantized_too(family: str) -> None:
    model = tiny.make_model(family)
    slice_model(model, [Kept([0, 3], [1]), Kept([], []), Kept([], [5, 6])])
    graph = build_graph(model)
    made = static_graph(graph, ranges_of(graph, family))
    assert np.isfinite(run(made, family)).all()
    assert count_quantized(made) == (len(quantizable_matmuls(GraphEditor(graph))), int(family == "electra"))
