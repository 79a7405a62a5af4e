"""Products, static int8, SmoothQuant and targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from compress.core.errors import ModelError
from compress.export.graph import build_graph
from compress.export.graph_editing import GraphEditor
from compress.inference.onnx_session import open_session, session_forward
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.calibrate import activation_histograms
from compress.quantize.dynamic import count_quantized
from compress.quantize.error_report import output_errors
from compress.quantize.instruction_sets import hardware_target
from compress.quantize.int8_weights import WeightQuantizer, quantize_weight
from compress.quantize.matmuls import find_matmuls, group_of, is_transposed, split_gemms, transpose_weights
from compress.quantize.ranges import Range, calibrated_range
from compress.quantize.smooth import inputs_to_smooth, smooth_graph, smooth_scales
from compress.quantize.static import affine, quantizable_matmuls, static_graph
from tests import tiny


def run(model: onnx.ModelProto, family: str = "bert", count: int = 40) -> np.ndarray:
    """Return the logits of the first sentences."""
    return session_forward(open_session(model.SerializeToString(), 1, "cpu", {}))(tiny.encoded(family, count).batch(range(count)))


def ranges_of(model: onnx.ModelProto, family: str = "bert") -> dict[str, Range]:
    """Return all that was seen."""
    found = activation_histograms(model, [matmul.rows for matmul in find_matmuls(model)], tiny.encoded(family, 40))
    return {name: calibrated_range(seen, "minmax") for name, seen in found.items()}


def gap(model: onnx.ModelProto, other: onnx.ModelProto, family: str = "bert") -> float:
    """Return the difference of two models' logits, over the spread of the first's; root mean squares."""
    before, after = run(model, family), run(other, family)
    return float(np.sqrt(((before - after) ** 2).mean() / ((before - before.mean(axis=0)) ** 2).mean()))


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


@given(st.integers(1, 20), st.integers(1, 20), st.floats(1e-6, 1e6), st.sampled_from([64, 127]))
def test_weights_are_within_half_a_step_of_their_own_channel(rows: int, columns: int, size: float, levels: int) -> None:
    weight = (np.random.default_rng(rows * columns).normal(size=(rows, columns)) * size).astype(np.float32)
    codes, scales = quantize_weight(weight, levels)
    assert codes.dtype == np.int8
    assert scales.shape == (columns,)
    assert (np.abs(codes * scales - weight) <= 0.5001 * scales).all()
    assert (np.abs(codes.astype(int)).max(axis=0) == levels).all()


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


def test_smooth_scales_by_hand() -> None:
    activations, weights = np.array([16.0, 1.0, 0.0, 4.0]), np.array([1.0, 4.0, 2.0, 0.0])
    assert smooth_scales(activations, weights, 0.5).tolist() == pytest.approx([4.0, 0.5, 1.0, 1.0])
    assert smooth_scales(activations, weights, 1.0).tolist() == pytest.approx([16.0, 1.0, 1.0, 1.0])
    assert smooth_scales(activations, weights, 0.0).tolist() == pytest.approx([1.0, 0.25, 1.0, 1.0])


@given(st.lists(st.tuples(st.floats(1e-2, 1e3), st.floats(1e-2, 1e3)), min_size=1, max_size=8))
def test_half_way_both_sides_are_as_hard(pairs: list[tuple[float, float]]) -> None:
    """With alpha 1/2 the largest value of a channel is the same in activations and weights: sqrt(max|X| max|W|)."""
    x, w = np.array(pairs).T
    s = smooth_scales(x, w, 0.5)
    np.testing.assert_allclose(x / s, w * s, rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothing_changes_no_logit(family: str, alpha: float) -> None:
    model = build_graph(tiny.make_model(family))
    seen = activation_histograms(model, [matmul.rows for matmul in find_matmuls(model)], tiny.encoded(family, 40))
    channels = {name: found.channels for name, found in seen.items() if found.channels is not None}
    made = smooth_graph(model, channels, alpha)
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(run(made, family), run(model, family), rtol=1e-3, atol=1e-4)
    smoothed = inputs_to_smooth(model)
    assert len([node for node in made.graph.node if node.name.endswith(".smooth")]) == len(smoothed)
    # What Q, K and V share is divided once, and in the last layer the first tokens alone for the query.
    assert {matmul.group.split(" ", 1)[1] for matmul in find_matmuls(model) if matmul.rows in smoothed and " " in matmul.group} == {
        "qkv",
        "ffn in",
    }


def planted(factor: float) -> onnx.ModelProto:
    """Return BERT with three channels of every attention norm that are `factor` times too large, and taken back by the weights."""
    model = tiny.make_model("bert")
    for layer in model.bert.encoder.layer:
        norm, inner = layer.attention.output.LayerNorm, layer.intermediate.dense
        norm.weight.data[:3] *= factor
        norm.bias.data[:3] *= factor
        inner.weight.data[:, :3] /= factor
        # The residual sees the large channels, too: the next norm is left to it, as in real models with outliers.
    return build_graph(model)


def test_smoothing_helps_where_channels_stand_out() -> None:
    model = planted(60.0)
    seen = activation_histograms(model, [matmul.rows for matmul in find_matmuls(model)], tiny.encoded("bert", 40))
    smoothed = smooth_graph(model, {name: found.channels for name, found in seen.items() if found.channels is not None}, 0.5)
    names = [f"layer.{number}.ffn.in" for number in range(tiny.LAYERS)]
    data = tiny.encoded("bert", 40)
    blind = output_errors(model, static_graph(model, ranges_of(model)), names[:1], data)[names[0]]
    helped = output_errors(model, static_graph(smoothed, ranges_of(smoothed)), names[:1], data)[names[0]]
    assert helped < 0.6 * blind


@pytest.mark.parametrize(
    ("name", "flags", "here", "seven_bits", "symmetric"),
    [
        ("auto", ["avx2"], True, True, False),
        ("auto", ["avx2", "avx512f", "avx512_vnni"], True, False, False),
        ("auto", ["asimd", "asimddp"], True, False, True),
        ("amx", ["avx512_vnni"], False, False, False),
        ("amx", ["amx_int8"], True, False, False),
        ("vnni", ["avx_vnni"], True, False, False),
        ("vnni", ["avx2"], False, False, False),
        ("avx2", ["avx2", "avx512_vnni"], True, True, False),
        ("arm64", ["avx2"], False, False, True),
    ],
)
def test_targets(name: Any, flags: list[str], here: bool, seven_bits: bool, symmetric: bool, capsys: pytest.CaptureFixture[str]) -> None:
    found = hardware_target(name, flags)
    assert (found.here, found.seven_bits, found.symmetric) == (here, seven_bits, symmetric)
    assert ("warning: this processor has no" in capsys.readouterr().err) is not here
