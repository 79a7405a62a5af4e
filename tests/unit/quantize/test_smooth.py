"""SmoothQuant: the scales by hand, and logits that do not change."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.export.graph import build_graph
from compress.quantize.calibrate import activation_histograms
from compress.quantize.error_report import output_errors
from compress.quantize.matmuls import find_matmuls
from compress.quantize.smooth import inputs_to_smooth, smooth_graph, smooth_scales
from compress.quantize.static import static_graph
from tests import tiny
from tests.unit.quantize.graphs import ranges_of, run


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


def test_weights_that_layers_share_have_one_scale() -> None:
    """The graph keeps one copy of each, and its logits."""
    model, data = build_graph(tiny.make_model("albert")), tiny.encoded("albert", 40)
    seen = activation_histograms(model, [matmul.rows for matmul in find_matmuls(model)], data)
    made = smooth_graph(model, {name: found.channels for name, found in seen.items() if found.channels is not None}, 0.5)
    np.testing.assert_allclose(run(made, "albert"), run(model, "albert"), rtol=1e-3, atol=1e-4)
    parts = ("query", "key", "value", "ffn.in")
    assert all(len({matmul.weight for matmul in find_matmuls(made) if matmul.node.endswith(part)}) == 1 for part in parts)
    assert made.ByteSize() < 1.1 * model.ByteSize()
